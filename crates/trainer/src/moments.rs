//! The optimizer's moments in a checkpoint, in the storage that they have in memory. The file is the same however the moments
//! are dealt to ranks: the first rank writes it tensor by tensor, asking the others for their parts, and each reads its own
//! parts back.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use half::bf16;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError, View};
use smpo_kernels::{AdamW, Moment, MomentFormat, Moments, Part};

use crate::error::TrainError;
use crate::ranks::Ranks;
use crate::zero::Owners;

const FIRST: &str = ".first_moment";
const SECOND: &str = ".second_moment";
const MASTER: &str = ".master";
/// After the name of a moment in 8 bits: the scales of its blocks.
const SCALES: &str = ".scales";

/// Largest header of a file.
const MOST_HEADER: u64 = 100 << 20;
/// Bytes that all ranks together bring at a time.
const MESSAGE: usize = 64 << 20;

/// A tensor of a parameter's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    First,
    FirstScales,
    Second,
    SecondScales,
    Master,
}

impl Kind {
    const ALL: [Self; 5] = [Self::First, Self::FirstScales, Self::Second, Self::SecondScales, Self::Master];

    fn suffix(self) -> String {
        match self {
            Self::First => FIRST.to_owned(),
            Self::FirstScales => format!("{FIRST}{SCALES}"),
            Self::Second => SECOND.to_owned(),
            Self::SecondScales => format!("{SECOND}{SCALES}"),
            Self::Master => MASTER.to_owned(),
        }
    }

    /// Type of the tensor, for moments of a format; `None` if there is no such tensor.
    fn dtype(self, format: MomentFormat, master: bool) -> Option<Dtype> {
        match (self, format) {
            (Self::Master, _) => master.then_some(Dtype::F32),
            (Self::FirstScales | Self::SecondScales, format) => {
                (format == MomentFormat::EightBit).then_some(Dtype::F32)
            }
            (_, MomentFormat::Single) => Some(Dtype::F32),
            (_, MomentFormat::Bf16) => Some(Dtype::BF16),
            (_, MomentFormat::EightBit) => Some(Dtype::U8),
        }
    }

    /// The elements that belong to some values of the parameter, which begin with a block.
    fn elements(self, values: &Range<usize>) -> Range<usize> {
        match self {
            Self::FirstScales | Self::SecondScales => values.start / Part::UNIT..values.end.div_ceil(Part::UNIT),
            Self::First | Self::Second | Self::Master => values.clone(),
        }
    }
}

fn size_of(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

/// The moments of all ranks, seen from one.
pub(crate) struct AllMoments<'a> {
    pub optimizer: &'a AdamW,
    /// `None` where every rank has all.
    pub owners: Option<&'a Owners>,
    pub ranks: &'a Ranks,
}

impl AllMoments<'_> {
    /// Runs `work` on the first rank, which may write the moments there, while the others give it theirs; `None` on those.
    ///
    /// # Errors
    /// That of `work`, on every rank, and those of the others.
    pub fn lead<T>(&self, work: impl FnOnce() -> Result<T, TrainError>) -> Result<Option<T>, TrainError> {
        if self.owners.is_none() {
            return self.ranks.lead(work);
        }
        let own = if self.ranks.leads() {
            let outcome = work();
            // No request: the others stop waiting for one.
            self.ranks.broadcast(&mut Vec::new())?;
            outcome.map(Some)
        } else {
            self.serve().map(|()| None)
        };
        self.ranks.agree(own)
    }

    /// Gives own parts until the first rank wants no more.
    fn serve(&self) -> Result<(), TrainError> {
        let mut failed = Ok(());
        loop {
            let mut request = Vec::new();
            self.ranks.broadcast(&mut request)?;
            let Some((&kind, parameter)) = request.split_first() else { return failed };
            let parameter = parameter.try_into().map_or(usize::MAX, |bytes| u64::from_le_bytes(bytes) as usize);
            let own = self.own(parameter, Kind::ALL[usize::from(kind)]);
            // A rank that has an error still takes part, and says so at the end.
            let own = own.unwrap_or_else(|error| {
                failed = Err(error);
                Vec::new()
            });
            self.exchange(parameter, &own, &mut |_, _| {})?;
        }
    }

    /// The bytes of own parts of a tensor, one after the other.
    fn own(&self, parameter: usize, kind: Kind) -> Result<Vec<u8>, TrainError> {
        let mut bytes = Vec::new();
        for view in self.optimizer.moments_of(parameter) {
            match kind {
                Kind::First => append(&mut bytes, &view.first()?),
                Kind::Second => append(&mut bytes, &view.second()?),
                Kind::FirstScales => append_scales(&mut bytes, &view.first()?),
                Kind::SecondScales => append_scales(&mut bytes, &view.second()?),
                Kind::Master => append_floats(&mut bytes, &view.master()?.unwrap_or_default()),
            }
        }
        Ok(bytes)
    }

    /// Brings the bytes of all ranks together, message by message.
    fn exchange(&self, parameter: usize, own: &[u8], take: &mut dyn FnMut(usize, &[u8])) -> Result<(), TrainError> {
        let Some(owners) = self.owners else { return Ok(()) };
        // As many messages on every rank: enough for the most values that one has, at four bytes each.
        let values = |rank: usize| {
            owners.of(rank).iter().filter(|part| part.parameter == parameter).map(|part| part.values.len()).sum()
        };
        let longest: usize = (0..owners.world()).map(values).max().unwrap_or(0);
        let each = (MESSAGE / owners.world()).max(1);
        for start in (0..4 * longest).step_by(each) {
            let piece = &own[start.min(own.len())..(start + each).min(own.len())];
            for (rank, piece) in self.ranks.gather(piece)?.iter().enumerate() {
                take(rank, piece);
            }
        }
        Ok(())
    }

    /// A whole tensor, on the first rank.
    fn fetch(&self, parameter: usize, kind: Kind, dtype: Dtype, len: usize) -> Result<Vec<u8>, TrainError> {
        let own = self.own(parameter, kind)?;
        let Some(owners) = self.owners else { return Ok(own) };
        let mut request = vec![kind as u8];
        request.extend((parameter as u64).to_le_bytes());
        self.ranks.broadcast(&mut request)?;
        let mut of_ranks = vec![Vec::new(); owners.world()];
        self.exchange(parameter, &own, &mut |rank, piece| of_ranks[rank].extend_from_slice(piece))?;
        let mut whole = vec![0; len];
        for (rank, bytes) in of_ranks.iter().enumerate() {
            let mut rest = &bytes[..];
            for part in owners.of(rank).iter().filter(|part| part.parameter == parameter) {
                let elements = kind.elements(&part.values);
                let place = elements.start * size_of(dtype)..elements.end * size_of(dtype);
                // A rank that failed brings nothing, and says why at the end of `lead`: no file may be made of the rest.
                let Some((own, after)) = rest.split_at_checked(place.len()) else {
                    let message = "its moments cannot be copied from its device".to_owned();
                    return Err(TrainError::OtherRank { rank, message });
                };
                whole[place].copy_from_slice(own);
                rest = after;
            }
        }
        Ok(whole)
    }

    /// Writes all moments to a safetensors file, on the first rank, within [`AllMoments::lead`].
    ///
    /// # Errors
    /// When the file cannot be written, or a copy from a device fails.
    pub fn write(&self, path: &Path) -> Result<(), TrainError> {
        let failed = RefCell::new(None);
        let mut tensors = Vec::new();
        for (parameter, of) in self.optimizer.parameters().enumerate() {
            let (format, master) = self.optimizer.storage_of(parameter);
            for kind in Kind::ALL {
                let Some(dtype) = kind.dtype(format, master) else { continue };
                let shape = match kind {
                    Kind::FirstScales | Kind::SecondScales => vec![of.var.elem_count().div_ceil(Part::UNIT)],
                    Kind::First | Kind::Second | Kind::Master => of.var.dims().to_vec(),
                };
                let name = format!("{}{}", of.name, kind.suffix());
                tensors.push((name, Stored { all: self, parameter, kind, dtype, shape, failed: &failed }));
            }
        }
        let written = safetensors::serialize_to_file(tensors, None, path);
        if let Some(error) = failed.take() {
            return Err(error);
        }
        written.map_err(|error| match error {
            SafeTensorError::IoError(source) => TrainError::Io { path: path.to_owned(), action: "write", source },
            other => TrainError::Checkpoint { dir: path.to_owned(), reason: other.to_string() },
        })
    }
}

/// A tensor to write, fetched when its turn comes.
struct Stored<'a> {
    all: &'a AllMoments<'a>,
    parameter: usize,
    kind: Kind,
    dtype: Dtype,
    shape: Vec<usize>,
    /// The first error: a view cannot fail.
    failed: &'a RefCell<Option<TrainError>>,
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let len = self.data_len();
        let fetch = || self.all.fetch(self.parameter, self.kind, self.dtype, len);
        let known = self.failed.borrow().is_some();
        let bytes = if known { Ok(Vec::new()) } else { fetch() };
        Cow::Owned(bytes.unwrap_or_else(|error| {
            self.failed.replace(Some(error));
            Vec::new()
        }))
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of(self.dtype)
    }
}

fn append(bytes: &mut Vec<u8>, moment: &Moment<'_>) {
    match moment {
        Moment::Single(values) => append_floats(bytes, values),
        Moment::Bf16(values) => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Moment::EightBit { codes, .. } => bytes.extend_from_slice(codes),
    }
}

fn append_scales(bytes: &mut Vec<u8>, moment: &Moment<'_>) {
    if let Moment::EightBit { scales, .. } = moment {
        append_floats(bytes, scales);
    }
}

fn append_floats(bytes: &mut Vec<u8>, values: &[f32]) {
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// The moments of an optimizer's parts, from the file of [`AllMoments::write`].
///
/// # Errors
/// The file's damage, or a parameter of which it has no moments or other ones.
pub(crate) fn read(path: &Path, optimizer: &AdamW) -> Result<Vec<Moments>, ReadError> {
    let mut file = Reader::open(path)?;
    let known: Vec<&str> = optimizer.parameters().map(|parameter| &parameter.name[..]).collect();
    let mut stored: BTreeSet<String> = BTreeSet::new();
    for name in file.metadata.tensors().keys() {
        let of = |suffix: &String| name.strip_suffix(suffix.as_str());
        // The longest suffix first: that of scales ends with none of the others.
        let Some(parameter) =
            Kind::ALL.iter().map(|kind| kind.suffix()).find_map(|suffix| of(&suffix).map(str::to_owned))
        else {
            return Err(ReadError::Damaged(format!(
                "{name}: expected a name that ends in {FIRST}, {SECOND} or {MASTER}"
            )));
        };
        stored.insert(parameter);
    }
    for parameter in &stored {
        let has = |suffix: &str| file.metadata.info(&format!("{parameter}{suffix}")).is_some();
        let damage = match (has(FIRST), has(SECOND)) {
            (true, false) => "its second moment is missing",
            (false, true) => "its first moment is missing",
            (false, false) => "its moments are missing",
            (true, true) if !known.contains(&&parameter[..]) => "belongs to no parameter",
            (true, true) => continue,
        };
        return Err(ReadError::Damaged(format!("{parameter}: {damage}")));
    }
    let mut all = Vec::new();
    let parameters: Vec<_> = optimizer.parameters().collect();
    for part in optimizer.parts() {
        let (name, len) = (&parameters[part.parameter].name, parameters[part.parameter].var.elem_count());
        if !stored.contains(name) {
            // The optimizer names it.
            continue;
        }
        let first = file.moment(name, FIRST, part, len)?;
        let second = file.moment(name, SECOND, part, len)?;
        let tensor = format!("{name}{MASTER}");
        let master = match file.metadata.info(&tensor).is_some() {
            true => Some(file.floats(&tensor, &part.values, len)?),
            false => None,
        };
        all.push(Moments { name: name.clone(), start: part.values.start, first, second, master });
    }
    Ok(all)
}

/// Failure to read moments.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The file is not what was written.
    Damaged(String),
    /// The disk.
    Io(std::io::Error),
}

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Damaged("it ends early".to_owned()),
            std::io::ErrorKind::NotFound => Self::Damaged("it is missing".to_owned()),
            _ => Self::Io(error),
        }
    }
}

/// A safetensors file of which parts of tensors are read.
struct Reader {
    file: File,
    metadata: Metadata,
    /// Place of the first tensor.
    data: u64,
}

/// Refuses tensors that overlap, leave a gap, or are of another size than their shape says.
fn check_places(metadata: &Metadata, size: u64) -> Result<(), ReadError> {
    let tensors = metadata.tensors();
    let mut by_place: Vec<_> = tensors.iter().collect();
    by_place.sort_by_key(|(_, info)| info.data_offsets);
    let mut end = 0usize;
    for (name, info) in by_place {
        let count = info.shape.iter().try_fold(1usize, |count, &width| count.checked_mul(width));
        let bytes = count.and_then(|count| count.checked_mul(size_of(info.dtype)));
        let expected = bytes.and_then(|bytes| end.checked_add(bytes));
        if (Some(info.data_offsets.0), Some(info.data_offsets.1)) != (Some(end), expected) {
            return Err(ReadError::Damaged(format!(
                "{name}: expected its bytes from {end} on, got {:?}",
                info.data_offsets
            )));
        }
        end = info.data_offsets.1;
    }
    if end as u64 != size {
        return Err(ReadError::Damaged(format!("expected {end} bytes of tensors, got {size}")));
    }
    Ok(())
}

impl Reader {
    fn open(path: &Path) -> Result<Self, ReadError> {
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let (header, size) = (u64::from_le_bytes(length), file.metadata()?.len());
        if header > MOST_HEADER || header + 8 > size {
            return Err(ReadError::Damaged(format!("its header has {header} bytes, the file {size}")));
        }
        let mut bytes = vec![0; header as usize];
        file.read_exact(&mut bytes)?;
        let metadata: Metadata =
            serde_json::from_slice(&bytes).map_err(|error| ReadError::Damaged(format!("its header: {error}")))?;
        let data = 8 + header;
        check_places(&metadata, size - data)?;
        Ok(Self { file, metadata, data })
    }

    /// The elements of a tensor that belong to some values of its parameter.
    fn bytes(
        &mut self,
        name: &str,
        info: &TensorInfo,
        elements: Range<usize>,
        of: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let count: usize = info.shape.iter().product();
        if count != of {
            return Err(ReadError::Damaged(format!("{name}: expected {of} elements, got {count}")));
        }
        let size = size_of(info.dtype);
        self.file.seek(SeekFrom::Start(self.data + (info.data_offsets.0 + elements.start * size) as u64))?;
        let mut bytes = vec![0; elements.len() * size];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn info(&self, name: &str) -> Result<TensorInfo, ReadError> {
        self.metadata.info(name).cloned().ok_or_else(|| ReadError::Damaged(format!("{name}: missing")))
    }

    fn floats(&mut self, name: &str, elements: &Range<usize>, of: usize) -> Result<Vec<f32>, ReadError> {
        let info = self.info(name)?;
        if info.dtype != Dtype::F32 {
            return Err(ReadError::Damaged(format!("{name}: expected F32, got {:?}", info.dtype)));
        }
        let bytes = self.bytes(name, &info, elements.clone(), of)?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// A part of a moment, of a parameter of `len` values.
    fn moment(&mut self, name: &str, suffix: &str, part: &Part, len: usize) -> Result<Moment<'static>, ReadError> {
        let name = format!("{name}{suffix}");
        let info = self.info(&name)?;
        match info.dtype {
            Dtype::BF16 => {
                let bytes = self.bytes(&name, &info, part.values.clone(), len)?;
                Ok(Moment::Bf16(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]])).collect()))
            }
            Dtype::U8 => {
                let codes = self.bytes(&name, &info, part.values.clone(), len)?.into();
                let blocks = Kind::FirstScales.elements(&part.values);
                let scales = self.floats(&format!("{name}{SCALES}"), &blocks, len.div_ceil(Part::UNIT))?.into();
                Ok(Moment::EightBit { codes, scales })
            }
            _ => Ok(Moment::Single(self.floats(&name, &part.values, len)?.into())),
        }
    }
}
