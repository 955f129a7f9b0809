//! JUnit XML read back, and held against the elements and attributes of `junit-10.xsd` of Jenkins' xUnit plugin.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// An element of the schema.
struct Rule {
    name: &'static str,
    /// Allowed attributes, the required ones first.
    attributes: &'static [&'static str],
    required: usize,
    children: &'static [&'static str],
}

const fn rule(
    name: &'static str,
    attributes: &'static [&'static str],
    required: usize,
    children: &'static [&'static str],
) -> Rule {
    Rule { name, attributes, required, children }
}

const SCHEMA: [Rule; 9] = [
    rule("testsuites", &["name", "time", "tests", "failures", "errors"], 0, &["testsuite"]),
    rule(
        "testsuite",
        &["name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname", "id", "package"],
        4,
        &["testsuite", "properties", "testcase", "system-out", "system-err"],
    ),
    rule("properties", &[], 0, &["property"]),
    rule("property", &["name", "value"], 2, &[]),
    rule(
        "testcase",
        &["name", "time", "classname", "group"],
        1,
        &["skipped", "error", "failure", "system-out", "system-err"],
    ),
    rule("skipped", &["type", "message"], 0, &[]),
    rule("error", &["type", "message"], 0, &[]),
    rule("failure", &["type", "message"], 0, &[]),
    rule("system-out", &[], 0, &[]),
];

/// An element in document order, with its parent's name.
pub struct Element {
    pub name: String,
    pub parent: Option<String>,
    pub attributes: Vec<(String, String)>,
}

impl Element {
    pub fn get(&self, attribute: &str) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| name == attribute).map(|(_, value)| value.as_str())
    }
}

/// Every element of a well-formed document that the schema allows.
#[track_caller]
pub fn valid(xml: &str) -> Vec<Element> {
    let mut reader = Reader::from_str(xml);
    let (mut open, mut elements): (Vec<String>, Vec<Element>) = (Vec::new(), Vec::new());
    loop {
        match reader.read_event().expect("well-formed") {
            Event::Start(start) => {
                elements.push(element(&start, open.last()));
                open.push(elements.last().expect("just pushed").name.clone());
            }
            Event::Empty(start) => elements.push(element(&start, open.last())),
            Event::End(_) => drop(open.pop()),
            Event::Eof => break,
            _ => {}
        }
    }
    assert!(open.is_empty(), "unclosed: {open:?}");
    elements.iter().for_each(check);
    elements
}

fn element(start: &BytesStart, parent: Option<&String>) -> Element {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let attributes = start.attributes().map(|attribute| {
        let attribute = attribute.expect("well-formed, each name once");
        (text(attribute.key.as_ref()), text(&attribute.value))
    });
    Element { name: text(start.name().as_ref()), parent: parent.cloned(), attributes: attributes.collect() }
}

#[track_caller]
fn check(element: &Element) {
    let rule = |name: &str| SCHEMA.iter().find(|rule| rule.name == name).unwrap_or_else(|| panic!("unknown <{name}>"));
    let Rule { name, attributes, required, .. } = rule(&element.name);
    for (attribute, _) in &element.attributes {
        assert!(attributes.contains(&attribute.as_str()), "attribute `{attribute}` is not allowed on <{name}>");
    }
    for attribute in &attributes[..*required] {
        assert!(element.get(attribute).is_some(), "<{name}> lacks `{attribute}`");
    }
    match &element.parent {
        None => assert_eq!(*name, "testsuites"),
        Some(parent) => assert!(rule(parent).children.contains(name), "<{name}> is not allowed in <{parent}>"),
    }
}
