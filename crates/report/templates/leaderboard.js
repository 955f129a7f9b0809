"use strict";
// The figures are in the page already; this adds sorting, charts and the sample browser. Text from models reaches the
// document only as text nodes and attribute values, never as markup.
(() => {
  const root = document.documentElement;
  root.classList.remove("no-script");
  const data = JSON.parse(document.getElementById("data").textContent);

  // ---- elements ------------------------------------------------------------------------------------------------
  const SVG = "http://www.w3.org/2000/svg";
  function build(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      node.setAttribute(name, value === true ? "" : String(value));
    }
    for (const child of children.flat()) {
      if (child !== null && child !== undefined) node.append(child);
    }
    return node;
  }
  const h = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);
  const s = (tag, attributes, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

  // ---- numbers -------------------------------------------------------------------------------------------------
  const DECIMALS = { tokens: 0, rank: 1, nats: 2, ratio: 3 };
  const known = (value) => value !== null && value !== undefined;
  const minus = (text) => (/^-[0.]*$/.test(text) ? text.slice(1) : text.replace("-", "−"));
  function percent(value) {
    for (let decimals = 1; decimals <= 4; decimals++) {
      const text = (value * 100).toFixed(decimals);
      if ((Number(text) !== 100 || value >= 1) && (Number(text) !== 0 || value <= 0)) return minus(text);
    }
    return value < 0.5 ? "< 0.0001" : "> 99.9999";
  }
  const bare = (unit, value) => minus(value.toFixed(DECIMALS[unit]));
  function format(unit, value) {
    if (!known(value)) return "–";
    return unit === "share" ? percent(value) + " %" : bare(unit, value);
  }
  function formatInterval(unit, low, high) {
    if (!known(low) || !known(high)) return "–";
    return unit === "share" ? `${percent(low)} – ${percent(high)} %` : `${bare(unit, low)} – ${bare(unit, high)}`;
  }
  function signed(value, decimals) {
    const text = value.toFixed(decimals);
    if (/^-?[0.]+$/.test(text)) return text.replace("-", "");
    return value > 0 ? "+" + text : minus(text);
  }
  function formatDifference(unit, value) {
    if (!known(value)) return "–";
    return unit === "share" ? signed(value * 100, 1) + " points" : signed(value, DECIMALS[unit]);
  }
  function tickLabel(unit, value, step, sign) {
    const scaled = unit === "share" ? value * 100 : value;
    const scaledStep = unit === "share" ? step * 100 : step;
    const decimals = Math.min(6, Math.max(0, -Math.floor(Math.log10(scaledStep) + 1e-9)));
    const text = sign ? signed(scaled, decimals) : minus(scaled.toFixed(decimals));
    return unit === "share" && !sign ? text + " %" : text;
  }
  function ticks(low, high, count) {
    const rough = (high - low) / Math.max(1, count);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((m) => m >= rough * 0.999);
    const values = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) values.push(i * step);
    return { step, values };
  }

  // ---- charts --------------------------------------------------------------------------------------------------
  const measuring = document.createElement("canvas").getContext("2d");
  function textWidth(text, weight) {
    measuring.font = `${weight || 400} 12px ${getComputedStyle(document.body).fontFamily}`;
    return measuring.measureText(text).width;
  }
  /** Cuts in the middle, keeping more of the end: names differ there. */
  function clip(text, width, weight) {
    if (textWidth(text, weight) <= width) return text;
    const characters = Array.from(text);
    let kept = characters.length;
    const cut = () => {
      const head = Math.floor(kept / 3);
      return characters.slice(0, head).join("") + "…" + characters.slice(characters.length - (kept - head)).join("");
    };
    while (kept > 1 && textWidth(cut(), weight) > width) kept--;
    return cut();
  }
  /** Cut names that still differ: what names that became the same share is cut from their beginning. */
  function clipApart(texts, width, weight) {
    const cut = texts.map((text) => clip(text, width, weight));
    return cut.map((short, i) => {
      const twins = texts.filter((text, k) => k !== i && cut[k] === short && text !== texts[i]);
      if (!twins.length) return short;
      const own = Array.from(texts[i]);
      const start = Math.min(...twins.map((twin) => own.findIndex((c, k) => c !== Array.from(twin)[k])).filter((k) => k >= 0), own.length - 1);
      let shown = own.slice(Math.max(0, start - 2));
      while (shown.length > 2 && textWidth("…" + shown.join("") + "…", weight) > width) shown.pop();
      return "…" + shown.join("") + (shown.length < own.length - Math.max(0, start - 2) ? "…" : "");
    });
  }
  /** Moves labels apart, top to bottom, inside [low, high]; drops the least important when there is no room. */
  function spread(labels, gap, low, high) {
    const room = Math.max(1, Math.floor((high - low) / gap) + 1);
    const kept = labels.slice().sort((a, b) => a.weight - b.weight).slice(0, room).sort((a, b) => a.at - b.at);
    kept.forEach((label, i) => { label.y = Math.max(label.at, i ? kept[i - 1].y + gap : low); });
    for (let i = kept.length - 1, limit = high; i >= 0; i--, limit = kept[i + 1].y - gap) {
      kept[i].y = Math.min(kept[i].y, limit);
    }
    return kept;
  }
  /** The first of some boxes [left, top, right, bottom] that lies inside and meets nothing; takes it. */
  function placeFree(areas, taken, inside) {
    const free = areas.find((area) => area[0] >= inside[0] && area[1] >= inside[1] && area[2] <= inside[2] && area[3] <= inside[3]
      && taken.every((other) => area[2] < other[0] || area[0] > other[2] || area[3] < other[1] || area[1] > other[3]));
    if (free) taken.push(free);
    return free;
  }
  /** Draws every chart at the width it has now: paper does not wait for observers. */
  const remeasure = [];
  function chart(element, draw) {
    if (!element) return () => {};
    let width = 0;
    const redraw = () => {
      if (width > 40) element.replaceChildren(draw(width));
    };
    remeasure.push(() => {
      width = Math.floor(element.getBoundingClientRect().width);
      redraw();
    });
    new ResizeObserver((entries) => {
      const now = Math.floor(entries[0].contentRect.width);
      if (now === width) return;
      width = now;
      // drawing inside the observer would change what it observes
      requestAnimationFrame(redraw);
    }).observe(element);
    return redraw;
  }
  const worseIsHigher = (metric) => metric.better === "lower";

  // ---- the address -------------------------------------------------------------------------------------------
  // `#board-1&model=NAME&slice=ID&prompt=ID&sample=N`: the board, the chosen model and slice, and the opened completion.
  // A link to the page shows what its sender saw.
  const address = {
    read() {
      const [place, ...rest] = location.hash.slice(1).split("&");
      return { place, fields: new URLSearchParams(rest.join("&")) };
    },
    of(place, fields) {
      const given = new URLSearchParams(Object.entries(fields).filter(([, value]) => known(value) && value !== ""));
      return `#${place}${String(given) && "&" + given}`;
    },
    /** Pages from disk may not be allowed to change their address. */
    write(link) {
      try { history.replaceState(null, "", link); } catch { /* the page works without */ }
    },
  };

  // ---- the table as Markdown -----------------------------------------------------------------------------------
  function markdown(table) {
    const text = (node) => node.textContent.trim().replace(/\s+/g, " ").replace(/[\\|`*_<>[\]]/g, "\\$&");
    const visible = (cell) => cell.getClientRects().length > 0;
    const heads = Array.from(table.tHead.rows[0].cells).filter(visible);
    const line = (cells) => `| ${cells.join(" | ")} |`;
    const value = (cell) => {
      const shown = cell.querySelector(".value");
      if (!shown) return text(cell.querySelector(".name") || cell);
      const interval = text(cell.querySelector(".interval"));
      return text(shown) + (interval ? ` (${interval})` : "");
    };
    const rows = Array.from(table.tBodies[0].rows).filter((row) => !row.hidden);
    return [
      line(heads.map((head) => text(head.querySelector("button")))),
      line(heads.map((head) => (head.classList.contains("num") ? "--:" : "---"))),
      ...rows.map((row) => line(Array.from(row.cells).filter(visible).map(value))),
    ].join("\n") + "\n";
  }
  /** Puts a text on the clipboard, also where the page has no right to it but the user's click. */
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const field = h("textarea", { class: "offscreen", readonly: true });
      field.value = text;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
  }

  // ---- one board -----------------------------------------------------------------------------------------------
  function Board(section, board) {
    const find = (selector) => section.querySelector(selector);
    const entries = board.entries;
    const names = entries.map((entry) => entry.name);
    const redraws = [];
    // the page opens on its story: the model of the first worst completion, else the last of the ranking
    const first = board.samples.worst[0];
    const state = {
      slice: 0,
      chosen: first ? board.samples.prompts[first[0]].arms[first[1]].e : entries.length - 1,
    };
    /** What a link to this view says; the parts of the page put in what is theirs. */
    const view = {};
    let settled = false;
    function remember(fields) {
      Object.assign(view, fields);
      if (settled) address.write(address.of(section.id, view));
    }
    const role = (index) => (index === state.chosen ? " chosen" : "") + (index === board.baseline ? " base" : "");

    function choose(index) {
      state.chosen = index;
      for (const row of section.querySelectorAll("[data-entry]")) {
        row.classList.toggle("chosen", Number(row.dataset.entry) === index);
      }
      highlight.value = String(index);
      remember({ model: names[index] });
      for (const redraw of redraws) redraw();
    }
    const highlight = find(".highlight");
    highlight.addEventListener("change", () => choose(Number(highlight.value)));
    const chooser = (node, index) => {
      node.addEventListener("click", () => choose(index));
      return node;
    };
    const fill = (select, options, chosen) => {
      select.replaceChildren(...options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
    };
    /** The estimate on a slice; a metric that lives on one slice only (held-out pairs) answers with that one. */
    function estimate(entry, metric, slice) {
      const row = entries[entry].est[metric];
      if (row[slice] || slice !== 0) return row[slice];
      return row.find((value) => value) || null;
    }
    function range(metric, slice) {
      const ranges = board.metrics[metric].range;
      return ranges[slice] || (slice === 0 ? ranges.find((value) => value) : null);
    }

    table();
    forest();
    curves(find(".survival"), "survival", "still running");
    curves(find(".hazard"), "hazard", "stop at");
    scatter();
    heat();
    const openPrompt = browser();
    choose(state.chosen);
    /** Shows what the address says of this board; what it does not know stays as it is. */
    function restore() {
      const { place, fields } = address.read();
      if (place !== section.id) return;
      settled = false;
      const slice = find(".slice");
      const wanted = board.slices.findIndex((known) => known.id === fields.get("slice"));
      if (slice && wanted >= 0) {
        slice.value = String(wanted);
        slice.dispatchEvent(new Event("change"));
      }
      const model = names.indexOf(fields.get("model"));
      if (model >= 0) choose(model);
      if (openPrompt && fields.has("prompt")) openPrompt(fields.get("prompt"), model, Number(fields.get("sample") || 0));
      settled = true;
    }
    restore();
    settled = true;
    addEventListener("hashchange", restore);

    // ---- the table
    function table() {
      const body = find(".models tbody");
      if (!body) return;
      const rows = Array.from(body.rows);
      const heads = Array.from(section.querySelectorAll(".models thead th"));
      const filter = find(".filter");
      const slice = find(".slice");
      const more = find(".more");
      const status = find(".status");

      const keys = {
        rank: (entry) => entry,
        name: (entry) => names[entry].toLocaleLowerCase(),
      };
      function sort(head, direction) {
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", direction);
        const metric = Number(head.dataset.key);
        const key = keys[head.dataset.key] || ((entry) => (estimate(entry, metric, state.slice) || [null])[0]);
        const sign = direction === "ascending" ? 1 : -1;
        rows.sort((a, b) => {
          const [x, y] = [key(Number(a.dataset.entry)), key(Number(b.dataset.entry))];
          if (x === null || y === null) return (x === null) - (y === null);
          return (x < y ? -1 : x > y ? 1 : 0) * sign || Number(a.dataset.entry) - Number(b.dataset.entry);
        });
        body.append(...rows);
      }
      for (const head of heads) {
        head.querySelector("button").addEventListener("click", () => {
          const now = head.getAttribute("aria-sort");
          const start = head.dataset.better || "ascending";
          sort(head, !now ? start : now === "ascending" ? "descending" : "ascending");
        });
      }
      function narrow() {
        const wanted = filter.value.trim().toLocaleLowerCase();
        let shown = 0;
        for (const row of rows) {
          row.hidden = !names[Number(row.dataset.entry)].toLocaleLowerCase().includes(wanted);
          shown += row.hidden ? 0 : 1;
        }
        status.textContent = wanted ? `${shown} of ${rows.length} models` : "";
      }
      filter.addEventListener("input", narrow);
      find(".copy").addEventListener("click", async () => {
        await copy(markdown(find(".models")));
        status.textContent = "The table is on the clipboard, as Markdown.";
      });
      if (more) more.addEventListener("change", () => find(".models").classList.toggle("all", more.checked));
      if (slice) slice.addEventListener("change", () => {
        state.slice = Number(slice.value);
        remember({ slice: state.slice ? board.slices[state.slice].id : "" });
        for (const row of rows) {
          Array.from(row.querySelectorAll("td.num")).forEach((cell, metric) => {
            show(cell, metric, estimate(Number(row.dataset.entry), metric, state.slice));
          });
        }
        for (const head of heads.filter((head) => head.querySelector(".axis"))) {
          const metric = Number(head.dataset.key);
          const ends = range(metric, state.slice);
          const labels = head.querySelectorAll(".axis span");
          labels.forEach((label, end) => {
            label.textContent = ends ? tickLabel(board.metrics[metric].unit, ends[end], (ends[1] - ends[0]) / 2 || 1) : "";
          });
        }
        const head = heads.find((head) => head.hasAttribute("aria-sort"));
        sort(head, head.getAttribute("aria-sort"));
      });
      function show(cell, metric, value) {
        const unit = board.metrics[metric].unit;
        cell.querySelector(".value").textContent = value ? format(unit, value[0]) : "–";
        cell.querySelector(".interval").textContent = value ? formatInterval(unit, value[1], value[2]) : "";
        const glyph = cell.querySelector(".glyph");
        if (!glyph) return;
        const ends = range(metric, state.slice);
        glyph.toggleAttribute("hidden", !value || !ends);
        if (!value || !ends) return;
        const at = (v) => Math.min(100, Math.max(0, (100 * (v - ends[0])) / (ends[1] - ends[0]))).toFixed(1) + "%";
        const span = glyph.querySelector(".span");
        span.setAttribute("x1", at(value[1]));
        span.setAttribute("x2", at(value[2]));
        glyph.querySelector("circle").setAttribute("cx", at(value[0]));
      }
      for (const row of rows) chooser(row, Number(row.dataset.entry));
    }

    // The metric a panel opens on: the first primary one in which the models differ by more than their intervals are
    // wide. A board on which all of them agree opens on loops.
    function separated(m) {
      const points = entries.map((entry) => entry.est[m].find(Boolean)).filter((point) => point && known(point[0]));
      const values = points.map((point) => point[0]);
      const width = points.reduce((sum, point) => sum + point[2] - point[1], 0) / Math.max(points.length, 1);
      return points.length > 1 && Math.max(...values) - Math.min(...values) > width;
    }
    function opening(offered) {
      const primary = offered.filter((m) => board.metrics[m].primary);
      const loops = offered.find((m) => board.metrics[m].id === "loop_rate");
      return primary.find(separated) ?? loops ?? primary[0] ?? offered[0];
    }

    // ---- forest plot
    function forest() {
      const element = find(".forest");
      if (!element) return;
      const select = find(".forest-metric");
      const note = find(".forest-note");
      const available = board.metrics.map((_, i) => i).filter((i) => entries.some((entry) => entry.diff[i]));
      fill(select, available.map((i) => [i, board.metrics[i].name]), opening(available));
      const LIMIT = 40;
      const redraw = chart(element, (width) => {
        const index = Number(select.value);
        const metric = board.metrics[index];
        const rows = entries.map((entry, i) => ({ i, diff: entry.diff[index] })).filter((row) => row.diff && known(row.diff[0]));
        const shown = rows.length <= LIMIT ? rows : rows.filter((row, k) => k < LIMIT - 1 || row.i === state.chosen).slice(0, LIMIT);
        const margins = Array.from(new Set(shown.map((row) => row.diff[3]).filter(known)));
        const margin = margins.length ? Math.max(...margins) : null;
        const limit = margin === null || metric.better === "neither" ? null : worseIsHigher(metric) ? margin : -margin;
        const values = shown.flatMap((row) => row.diff.slice(0, 3)).filter(known).concat(0, limit ?? 0, limit === null ? 0 : -limit / 2);
        let [low, high] = [Math.min(...values), Math.max(...values)];
        const pad = (high - low || 1) * 0.05;
        low -= pad; high += pad;
        const narrow = width < 560;
        const left = Math.min(Math.max(...shown.map((row) => textWidth(names[row.i], 600))) + 14, width * (narrow ? 0.34 : 0.24));
        const right = narrow ? 6 : 196;
        const [top, row] = [24, 28];
        const unit = metric.unit === "share" ? "points" : metric.unit === "ratio" ? "" : metric.unit;
        const axisTitle = `${narrow ? "difference" : `${metric.name}, difference`}${unit ? " in " + unit : ""}`;
        const points = limit === null ? 0 : +(margin * 100).toFixed(2);
        const limitTitle = limit === null ? "" : `margin ${metric.unit === "share" ? `${points} ${points === 1 ? "point" : "points"}` : margin}`;
        const second = narrow && limit !== null ? 18 : 0;
        const height = top + shown.length * row + 42 + second;
        const x = (v) => left + ((v - low) / (high - low)) * (width - left - right);
        const plotEnd = width - right;
        const bottom = top + shown.length * row;
        const canvas = s("svg", { height, viewBox: `0 0 ${width} ${height}` });
        if (limit !== null) {
          const worse = worseIsHigher(metric) ? [x(limit), plotEnd] : [left, x(limit)];
          canvas.append(s("rect", { class: "beyond", x: worse[0], y: top - 4, width: Math.max(0, worse[1] - worse[0]), height: bottom - top + 8 }));
        }
        const axis = ticks(low, high, narrow ? 4 : 7);
        for (const tick of axis.values) {
          canvas.append(s("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top - 4, y2: bottom + 4 }));
          canvas.append(s("text", { class: "minor", x: x(tick), y: bottom + 18, "text-anchor": "middle" }, tickLabel(metric.unit, tick, axis.step, true)));
        }
        canvas.append(s("text", { x: plotEnd, y: bottom + 36 + second, "text-anchor": "end" }, axisTitle));
        canvas.append(s("line", { class: "zero", x1: x(0), x2: x(0), y1: top - 4, y2: bottom + 4 }));
        if (metric.better !== "neither") {
          const [a, b] = worseIsHigher(metric) ? ["← better", "worse →"] : ["← worse", "better →"];
          // the arrows stand beside zero, as far as the plot lets them
          const turn = Math.min(Math.max(x(0), textWidth(a) + 10), width - textWidth(b) - 10);
          canvas.append(s("text", { x: turn - 8, y: 12, "text-anchor": "end" }, a), s("text", { x: turn + 8, y: 12 }, b));
        }
        if (limit !== null) {
          canvas.append(s("line", { class: "limit", x1: x(limit), x2: x(limit), y1: top - 4, y2: bottom + 4 }));
          const half = textWidth(limitTitle) / 2;
          const at = Math.min(Math.max(x(limit), left + half), second ? plotEnd - half : plotEnd - textWidth(axisTitle) - half - 16);
          canvas.append(s("text", { class: "limit-text", x: at, y: bottom + 36, "text-anchor": "middle" }, limitTitle));
        }
        const labels = clipApart(shown.map((row) => names[row.i]), left - 14, 600);
        shown.forEach((entry, k) => {
          const y = top + k * row + row / 2;
          const [value, from, to] = entry.diff;
          const clear = known(from) && (from > 0 || to < 0);
          const g = s("g", { class: "mark" + role(entry.i) + (clear ? "" : " open") },
            known(from) ? s("line", { x1: x(from), x2: x(to), y1: y, y2: y }) : null,
            s("circle", { cx: x(value), cy: y, r: 4.5 }));
          const text = `${formatDifference(metric.unit, value)}  [${formatDifference(metric.unit, from).replace(" points", "")} … ${formatDifference(metric.unit, to).replace(" points", "")}]`;
          if (entry.i === state.chosen) {
            canvas.append(s("rect", { class: "row-hit chosen", x: 0, y: y - row / 2 + 1, width: left - 4, height: row - 2, rx: 4 }));
          }
          canvas.append(g);
          canvas.append(s("text", { class: "label" + role(entry.i), x: 6, y: y + 4 }, labels[k]));
          if (!narrow) canvas.append(s("text", { x: width, y: y + 4, "text-anchor": "end" }, text));
          const cover = s("rect", { class: "row-hit", x: 0, y: y - row / 2, width, height: row }, s("title", {}, `${names[entry.i]}: ${text}`));
          canvas.append(chooser(cover, entry.i));
        });
        element.setAttribute("aria-label", `${metric.name}, difference to the baseline: ` + shown.map((r) => `${names[r.i]} ${formatDifference(metric.unit, r.diff[0])}`).join("; "));
        note.textContent = "Bars are 95 % intervals, paired by prompt. A filled dot: the interval leaves out zero."
          + (limit !== null ? " Shaded: worse than the non-inferiority margin." : "")
          + (shown.length < rows.length ? ` The first ${shown.length} of ${rows.length} models are drawn.` : "");
        return canvas;
      });
      select.addEventListener("change", redraw);
      redraws.push(redraw);
    }

    // ---- survival and hazard
    /** Step functions: survival holds from its point on, a hazard holds on the bin that ends at its point. */
    function curves(element, field, verb) {
      if (!element) return;
      const survival = field === "survival";
      const readout = element.parentElement.querySelector(".readout");
      const resting = readout.textContent;
      const drawn = entries.map((entry, i) => ({ i, points: entry[field] })).filter((curve) => curve.points.length > 1);
      if (!drawn.length) { element.closest(".panel").hidden = true; return; }
      const endOf = (curve) => curve.points[curve.points.length - 1];
      const heightOf = (curve) => (survival ? endOf(curve)[1] : Math.max(...curve.points.map((point) => point[1])));
      const xMax = Math.max(...drawn.map((curve) => endOf(curve)[0]));
      const yTop = survival ? 1 : Math.max(1e-9, ...drawn.flatMap((curve) => curve.points.map((p) => p[1])));
      let near = -1;
      const redraw = chart(element, (width) => {
        const height = 264;
        const labelled = survival ? Math.min(150, Math.max(...drawn.map((curve) => textWidth(names[curve.i], 600))) + 12, width * 0.34) : 0;
        const box = { left: 44, right: width - labelled - (survival ? 6 : 12), top: survival ? 8 : 22, bottom: height - 38 };
        const yTicks = ticks(0, yTop, 4);
        const yMax = survival ? 1 : Math.max(yTop, yTicks.values[yTicks.values.length - 1]);
        const x = (t) => box.left + (t / xMax) * (box.right - box.left);
        const y = (v) => box.bottom - (v / yMax) * (box.bottom - box.top);
        const canvas = s("svg", { height, viewBox: `0 0 ${width} ${height}` });
        for (const tick of yTicks.values) {
          canvas.append(s("line", { class: "grid", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }));
          canvas.append(s("text", { class: "minor", x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" }, tickLabel("share", tick, yTicks.step)));
        }
        const xTicks = ticks(0, xMax, Math.max(2, Math.floor((box.right - box.left) / 64)));
        for (const tick of xTicks.values) {
          canvas.append(s("text", { class: "minor", x: x(tick), y: box.bottom + 18, "text-anchor": "middle" }, tickLabel("tokens", tick, xTicks.step)));
        }
        canvas.append(s("text", { x: box.right, y: box.bottom + 35, "text-anchor": "end" }, "tokens"));
        const order = drawn.slice().sort((a, b) => rankOf(a.i) - rankOf(b.i));
        for (const curve of order) {
          let path = "";
          curve.points.forEach(([t, v], k) => {
            const [px, py] = [x(t).toFixed(1), y(v).toFixed(1)];
            if (survival) path += k ? `H${px}V${py}` : `M${px},${py}`;
            else path += (k ? `V${py}` : `M${x(0).toFixed(1)},${py}`) + `H${px}`;
          });
          const line = s("path", { class: "curve" + role(curve.i) + (curve.i === near ? " near" : ""), d: path }, s("title", {}, names[curve.i]));
          canvas.append(chooser(line, curve.i));
        }
        const extremes = drawn.slice().sort((a, b) => heightOf(b) - heightOf(a)).map((curve) => curve.i);
        const weight = (i) => (i === state.chosen ? -3 : i === near ? -2 : i === board.baseline ? -1 : Math.min(extremes.indexOf(i), drawn.length - 1 - extremes.indexOf(i)));
        const labels = drawn.map((curve) => ({ i: curve.i, weight: weight(curve.i), curve })).filter((label) => label.weight < 6);
        if (survival) {
          for (const label of labels) label.at = y(endOf(label.curve)[1]);
          for (const label of spread(labels, 15, box.top + 4, box.bottom)) {
            canvas.append(s("path", { class: "leader", fill: "none", d: `M${x(endOf(label.curve)[0]) + 2},${label.at}L${box.right + 8},${label.y}` }));
            const text = s("text", { class: "label" + role(label.i), x: box.right + 11, y: label.y + 4 }, clip(names[label.i], labelled - 8, 600));
            canvas.append(chooser(text, label.i));
          }
        } else {
          // every hazard ends near nothing: its name stands at its peak
          const taken = [];
          for (const label of labels.sort((a, b) => a.weight - b.weight)) {
            const points = label.curve.points;
            const top = points.reduce((best, point, k) => (point[1] > points[best][1] ? k : best), 0);
            const text = clip(names[label.i], 150, 600);
            const w = textWidth(text, 600);
            const peak = [(x(points[top][0]) + x(top ? points[top - 1][0] : 0)) / 2, y(points[top][1])];
            const places = [[-w / 2, -6], [8, -6], [-8 - w, -6], [-w / 2, -20], [14, 8], [-14 - w, 8]];
            const place = placeFree(places.map(([dx, dy]) => [peak[0] + dx, peak[1] + dy - 11, peak[0] + dx + w, peak[1] + dy + 3]), taken, [box.left, 0, width, box.bottom]);
            if (place) canvas.append(chooser(s("text", { class: "label halo" + role(label.i), x: place[0], y: place[3] - 3 }, text), label.i));
          }
        }
        const value = (curve, t) => {
          if (!survival) return (curve.points.find((point) => point[0] >= t) || endOf(curve))[1];
          let at = curve.points[0][1];
          for (const point of curve.points) { if (point[0] > t) break; at = point[1]; }
          return at;
        };
        canvas.addEventListener("pointermove", (event) => {
          const bounds = canvas.getBoundingClientRect();
          const t = Math.round(((event.clientX - bounds.left - box.left) / (box.right - box.left)) * xMax);
          if (t < 0 || t > xMax) return;
          const py = event.clientY - bounds.top;
          let best = null;
          for (const curve of drawn) {
            const distance = Math.abs(y(value(curve, t)) - py);
            if (!best || distance < best.distance) best = { curve, distance };
          }
          readout.textContent = `${names[best.curve.i]}: ${percent(value(best.curve, t))} % ${verb} ${survival ? "after " : ""}${t} tokens`;
          if (near !== best.curve.i) {
            near = best.curve.i;
            for (const line of canvas.querySelectorAll(".curve")) line.classList.toggle("near", line.querySelector("title").textContent === names[near]);
          }
        });
        canvas.addEventListener("pointerleave", () => {
          near = -1;
          readout.textContent = resting;
          for (const line of canvas.querySelectorAll(".near")) line.classList.remove("near");
        });
        element.setAttribute("aria-label", `${field} curves over ${Math.round(xMax)} tokens; at the end: ` + drawn.slice(0, 20).map((c) => `${names[c.i]} ${percent(endOf(c)[1])} %`).join("; "));
        return canvas;
      });
      redraws.push(redraw);
    }
    const rankOf = (i) => (i === state.chosen ? 2 : i === board.baseline ? 1 : 0);

    // ---- preference against stopping
    function scatter() {
      const element = find(".scatter");
      if (!element) return;
      const preference = board.metrics.findIndex((metric) => metric.id === "pref_accuracy");
      const stopping = board.metrics.findIndex((metric) => metric.id === "eos_rate");
      const select = find(".scatter-slice");
      const slices = board.slices.map((slice, i) => i).filter((i) => entries.some((entry) => entry.est[stopping][i]));
      const ood = slices.find((i) => board.slices[i].id === "ood") ?? slices.find((i) => /^ood|out.of/i.test(board.slices[i].id)) ?? slices[0];
      fill(select, slices.map((i) => [i, board.slices[i].name]), ood);
      const inDistribution = board.slices.findIndex((slice) => /^(in_distribution|id|held_out)$/.test(slice.id) && entries.some((entry) => entry.est[preference][board.slices.indexOf(slice)]));
      const redraw = chart(element, (width) => {
        const slice = Number(select.value);
        const points = entries.map((entry, i) => ({
          i,
          x: inDistribution >= 0 ? entry.est[preference][inDistribution] : estimate(i, preference, 0),
          y: entry.est[stopping][slice],
        })).filter((point) => point.x && point.y && known(point.x[0]) && known(point.y[0]));
        const height = 304;
        const box = { left: 52, right: width - 14, top: 26, bottom: height - 40 };
        const canvas = s("svg", { height, viewBox: `0 0 ${width} ${height}` });
        if (!points.length) {
          canvas.append(s("text", { x: box.left, y: 40 }, "No model has both figures on this slice."));
          return canvas;
        }
        const span = (axis) => {
          const values = points.flatMap((point) => point[axis].slice(0, 3)).filter(known);
          const [low, high] = [Math.min(...values), Math.max(...values)];
          const pad = Math.max(0.01, (high - low) * 0.08);
          return [Math.max(0, low - pad), Math.min(1, high + pad)];
        };
        const [xs, ys] = [span("x"), span("y")];
        const x = (v) => box.left + ((v - xs[0]) / (xs[1] - xs[0])) * (box.right - box.left);
        const y = (v) => box.bottom - ((v - ys[0]) / (ys[1] - ys[0])) * (box.bottom - box.top);
        const yTicks = ticks(ys[0], ys[1], 4);
        for (const tick of yTicks.values) {
          canvas.append(s("line", { class: "grid", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }));
          canvas.append(s("text", { class: "minor", x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" }, tickLabel("share", tick, yTicks.step)));
        }
        const xTicks = ticks(xs[0], xs[1], Math.max(2, Math.floor(width / 110)));
        for (const tick of xTicks.values) {
          canvas.append(s("line", { class: "grid", x1: x(tick), x2: x(tick), y1: box.top, y2: box.bottom }));
          canvas.append(s("text", { class: "minor", x: x(tick), y: box.bottom + 18, "text-anchor": "middle" }, tickLabel("share", tick, xTicks.step)));
        }
        const where = inDistribution >= 0 ? `, ${board.slices[inDistribution].name}` : "";
        canvas.append(s("text", { x: box.right, y: height - 4, "text-anchor": "end" }, `preference accuracy${where} →`));
        canvas.append(s("text", { x: 0, y: 11 }, "↑ EOS rate"));
        const labels = [];
        for (const point of points.slice().sort((a, b) => rankOf(a.i) - rankOf(b.i))) {
          const [px, py] = [x(point.x[0]), y(point.y[0])];
          const title = `${names[point.i]}: preference ${format("share", point.x[0])} [${formatInterval("share", point.x[1], point.x[2])}], EOS ${format("share", point.y[0])} [${formatInterval("share", point.y[1], point.y[2])}]`;
          const g = s("g", { class: "mark" + role(point.i) },
            known(point.x[1]) ? s("line", { x1: x(point.x[1]), x2: x(point.x[2]), y1: py, y2: py, "stroke-opacity": 0.45 }) : null,
            known(point.y[1]) ? s("line", { x1: px, x2: px, y1: y(point.y[1]), y2: y(point.y[2]), "stroke-opacity": 0.45 }) : null,
            s("circle", { cx: px, cy: py, r: 5 }), s("title", {}, title));
          canvas.append(chooser(g, point.i));
          labels.push({ i: point.i, px, py });
        }
        // a label goes where it meets neither a point nor another label; with no place it is left to the tooltip
        const taken = labels.map((label) => [label.px - 7, label.py - 7, label.px + 7, label.py + 7]);
        labels.sort((a, b) => rankOf(b.i) - rankOf(a.i));
        for (const label of labels) {
          const text = clip(names[label.i], 150, 600);
          const w = textWidth(text, 600);
          const places = [[9, -8], [-9 - w, -8], [9, 18], [-9 - w, 18], [9, -22], [-9 - w, -22], [9, 32], [-9 - w, 32]];
          const place = placeFree(places.map(([dx, dy]) => [label.px + dx, label.py + dy - 11, label.px + dx + w, label.py + dy + 3]), taken, [box.left + 2, 0, width, box.bottom]);
          if (place) canvas.append(chooser(s("text", { class: "label halo" + role(label.i), x: place[0], y: place[3] - 3 }, text), label.i));
        }
        element.setAttribute("aria-label", "Preference accuracy against EOS rate: " + points.slice(0, 20).map((p) => `${names[p.i]} ${format("share", p.x[0])}, ${format("share", p.y[0])}`).join("; "));
        return canvas;
      });
      select.addEventListener("change", redraw);
      redraws.push(redraw);
    }

    // ---- slices
    function heat() {
      const element = find(".heat");
      if (!element) return;
      const select = find(".heat-metric");
      const readout = element.parentElement.querySelector(".readout");
      const counts = board.metrics.map((_, m) => board.slices.filter((_, i) => entries.some((entry) => entry.est[m][i])).length);
      const offered = board.metrics.map((_, m) => m).filter((m) => counts[m] > 1);
      if (!offered.length) { element.closest(".panel").hidden = true; return; }
      fill(select, offered.map((m) => [m, board.metrics[m].name]), opening(offered));
      function draw() {
        const m = Number(select.value);
        const metric = board.metrics[m];
        const slices = board.slices.map((_, i) => i).filter((i) => entries.some((entry) => entry.est[m][i]));
        const values = entries.flatMap((entry) => slices.map((i) => entry.est[m][i])).filter((v) => v && known(v[0])).map((v) => v[0]);
        const [low, high] = [Math.min(...values), Math.max(...values)];
        const badness = (v) => {
          if (metric.better === "neither" || high === low) return 0;
          const share = (v - low) / (high - low);
          return worseIsHigher(metric) ? share : 1 - share;
        };
        const rgb = getComputedStyle(root).getPropertyValue("--heat").trim();
        const head = h("tr", {}, h("th", { scope: "col" }, "Model"), slices.map((i) => h("th", { scope: "col", class: "num" }, board.slices[i].name)));
        const shortened = clipApart(entries.map((entry) => entry.name), 170, 400);
        const rows = entries.map((entry, e) => {
          const row = h("tr", { "data-entry": e, class: e === state.chosen ? "chosen" : null },
            chooser(h("th", { scope: "row", title: entry.name }, h("bdi", {}, shortened[e])), e),
            slices.map((i) => {
              const value = entry.est[m][i];
              const cell = h("td", { class: "num" }, value ? format(metric.unit, value[0]) : "–");
              if (!value || !known(value[0])) return cell;
              const text = `${entry.name} on ${board.slices[i].name}: ${format(metric.unit, value[0])} [${formatInterval(metric.unit, value[1], value[2])}], ${value[3]} prompts`;
              cell.tabIndex = -1;
              for (const event of ["focus", "pointerenter", "click"]) cell.addEventListener(event, () => { readout.textContent = text; });
              cell.style.background = `rgb(${rgb} / ${(0.55 * badness(value[0])).toFixed(3)})`;
              return cell;
            }));
          return row;
        });
        element.replaceChildren(h("table", {}, h("thead", {}, head), h("tbody", {}, rows)));
        const entry = element.querySelector("td[tabindex]");
        if (entry) entry.tabIndex = 0;
      }
      element.addEventListener("keydown", (event) => {
        const cell = event.target.closest("td[tabindex]");
        const moves = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
        if (!cell || !(event.key in moves)) return;
        const [dx, dy] = moves[event.key];
        const row = cell.parentElement.parentElement.rows[cell.parentElement.rowIndex - 1 + dy];
        const next = row && row.cells[cell.cellIndex + dx];
        if (!next || !next.matches("[tabindex]")) return;
        event.preventDefault();
        cell.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
      });
      draw();
      select.addEventListener("change", draw);
    }

    // ---- sample browser
    function browser() {
      const list = find(".sample-list");
      if (!list) return;
      const element = find(".browser");
      const reader = find(".reader");
      const { prompts, worst } = board.samples;
      const model = find(".sample-model");
      const flag = find(".sample-flag");
      const search = find(".sample-search");
      const note = find(".sample-note");
      const flat = (pieces) => pieces.map((piece) => (piece.k === "g" ? " " : piece.v.map((run) => (typeof run === "string" ? run : "")).join(""))).join("");
      const items = worst.map(([p, a]) => {
        const prompt = prompts[p];
        const arm = prompt.arms[a];
        const asked = prompt.messages.length ? flat(prompt.messages[prompt.messages.length - 1][1]) : "";
        return { p, a, prompt, arm, asked, text: (names[arm.e] + " " + prompt.id + " " + asked + " " + flat(arm.text)).toLocaleLowerCase() };
      });
      const flags = Array.from(new Set(items.flatMap((item) => item.arm.flags)));
      const present = entries.map((_, i) => i).filter((i) => items.some((item) => item.arm.e === i));
      fill(model, [["", "any"], ...present.map((i) => [i, names[i]])]);
      fill(flag, [["", "any"], ...flags.map((name) => [name, name])]);
      let shown = [];
      let at = 0;

      function narrow() {
        const wanted = search.value.trim().toLocaleLowerCase();
        shown = items.filter((item) => (model.value === "" || item.arm.e === Number(model.value))
          && (flag.value === "" || item.arm.flags.includes(flag.value)) && item.text.includes(wanted));
        list.replaceChildren(...shown.map((item, k) => {
          const option = h("div", { role: "option", id: `${section.id}-sample-${k}`, "aria-selected": "false" },
            h("div", { class: "option-head" }, h("bdi", {}, names[item.arm.e]), item.arm.flags.map((name) => h("span", { class: "flag" }, name))),
            h("div", { class: "snippet", dir: "auto" }, Array.from(item.asked || item.prompt.id).slice(0, 160).join("")));
          option.addEventListener("click", () => open(k, true));
          return option;
        }));
        if (!shown.length) {
          list.append(h("p", { class: "empty" }, "No embedded completion matches."));
          list.removeAttribute("aria-activedescendant");
          reader.replaceChildren();
        } else open(0, false);
        const left = board.samples.left_out;
        note.textContent = `${shown.length} of ${items.length} embedded completions.`
          + (left ? ` ${left} more flawed ones did not fit into the page.` : "")
          + (entries.some((entry) => entry.files.length) ? " Every completion in full is in the sample files." : "")
          + " Arrow keys move through the list.";
      }
      function open(k, linked) {
        at = Math.max(0, Math.min(shown.length - 1, k));
        const item = shown[at];
        Array.from(list.children).forEach((option, i) => option.setAttribute("aria-selected", String(i === at)));
        const option = list.children[at];
        list.setAttribute("aria-activedescendant", option.id);
        if (option.offsetTop < list.scrollTop) list.scrollTop = option.offsetTop;
        if (option.offsetTop + option.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = option.offsetTop + option.offsetHeight - list.clientHeight;
        show(item);
        if (!linked) return;
        choose(item.arm.e);
        remember({ prompt: item.prompt.id, sample: item.arm.s || "" });
      }
      /** Opens a prompt that a verdict names, in the list or not. */
      function reveal(p) {
        for (const control of [model, flag, search]) control.value = "";
        narrow();
        const k = shown.findIndex((item) => item.p === p);
        if (k >= 0) open(k, true);
        else {
          for (const option of list.children) option.setAttribute("aria-selected", "false");
          list.removeAttribute("aria-activedescendant");
          show({ prompt: prompts[p], arm: prompts[p].arms[0] });
        }
        element.scrollIntoView({ block: "start" });
      }
      /** Opens the completion that a link names: by prompt, model and sample, or the prompt alone. */
      function openPrompt(id, e, sample) {
        const p = prompts.findIndex((prompt) => prompt.id === id);
        if (p < 0) return;
        for (const control of [model, flag, search]) control.value = "";
        narrow();
        const k = shown.findIndex((item) => item.p === p && item.arm.e === e && (item.arm.s || 0) === sample);
        if (k >= 0) open(k, true);
        else reveal(p);
        element.scrollIntoView({ block: "start" });
      }
      /** One completion per model: the opened one for its model, the same draw for the others where there is one. */
      function sideBySide({ prompt, arm }) {
        const arms = entries.map((_, e) => {
          const own = prompt.arms.filter((other) => other.e === e);
          return e === arm.e ? arm : own.find((other) => other.s === arm.s) || own[0];
        }).filter(Boolean);
        return arms.sort((x, y) => (y === arm) - (x === arm) || (y.e === board.baseline) - (x.e === board.baseline) || x.e - y.e);
      }
      function show(item) {
        const arms = sideBySide(item);
        const previous = h("button", { type: "button", class: "quiet", disabled: at === 0 }, "Previous");
        const next = h("button", { type: "button", class: "quiet", disabled: at === shown.length - 1 }, "Next");
        previous.addEventListener("click", () => open(at - 1, true));
        next.addEventListener("click", () => open(at + 1, true));
        reader.replaceChildren(...page(item, arms, previous, next));
        for (const text of reader.querySelectorAll(".arm > .prose")) {
          const period = text.querySelector(".period, .looped");
          if (period) text.scrollTop = Math.max(0, period.offsetTop - 70);
        }
      }
      /** A prompt and its completions, side by side. */
      function page(item, arms, previous, next) {
        const { prompt, arm } = item;
        return [
          h("div", { class: "reader-head" },
            h("code", { dir: "auto" }, prompt.id), h("span", { class: "dim" }, prompt.slice),
            h("a", { class: "dim", href: address.of(section.id, { model: names[arm.e], prompt: prompt.id, sample: arm.s || "" }) }, "link"),
            h("span", { class: "spring" }), h("span", { class: "pager" }, h("span", { class: "dim" }, item.text === undefined ? "" : `${at + 1} of ${shown.length}`), previous, next)),
          ...prompt.messages.map(([who, pieces]) => h("div", { class: "message" }, h("div", { class: "role" }, who), prose(pieces))),
          prompt.reference ? h("details", { class: "message" }, h("summary", { class: "role" }, "reference answer"), prose(prompt.reference)) : "",
          arms.some((other) => other.cycle) ? h("p", { class: "dim legend" }, "Shaded: the loop, each copy of its ", h("span", { class: "period" }, "period"), " edged.") : "",
          h("div", { class: "arms" }, arms.map((other) => card(other, other === arm))),
        ];
      }
      /** The next worst prompts as well: paper has no list to click. */
      function print() {
        const opened = shown[at];
        const others = shown.filter((item, k) => item !== opened && shown.findIndex((other) => other.p === item.p) === k && item.p !== opened.p);
        for (const item of others.slice(0, 5)) reader.append(h("div", { class: "paper" }, page(item, sideBySide(item), "", "")));
      }
      addEventListener("beforeprint", () => { if (shown.length) print(); });
      addEventListener("afterprint", () => { for (const node of reader.querySelectorAll(".paper")) node.remove(); });
      function card(arm, opened) {
        const length = known(arm.tokens) ? (arm.cap ? ` · ${arm.tokens} of ${arm.cap} tokens` : ` · ${arm.tokens} tokens`) : "";
        const files = entries[arm.e].files;
        return h("article", { class: "arm" + (opened ? " chosen" : "") },
          h("header", {},
            h("div", { class: "option-head" }, h("strong", {}, h("bdi", {}, names[arm.e])),
              arm.e === board.baseline ? h("span", { class: "tag" }, "baseline") : null,
              arm.flags.map((name) => h("span", { class: "flag" }, name))),
            h("div", { class: "dim" },
              h("span", { class: "ending" + (arm.sound === true ? " good" : arm.sound === false ? " bad" : "") }, arm.finish), length,
              arm.cycle ? ` · cycle of ${arm.cycle.chars} ${arm.cycle.chars === 1 ? "character" : "characters"} × ${arm.cycle.copies}` : "",
              arm.s ? ` · sample ${arm.s + 1}` : ""),
            arm.error ? h("div", { class: "dim" }, arm.error) : null,
            files.length ? h("div", { class: "dim" }, "full samples ", files.map((file, i) => [i ? " " : "", h("a", { href: file, "aria-label": `full samples, file ${i + 1}` }, files.length > 1 ? String(i + 1) : "file")]).flat()) : null),
          prose(arm.text, "0"));
      }
      function prose(pieces, tabindex) {
        const text = h("div", { class: "prose", dir: "auto", tabindex });
        let copy = 0;
        for (const piece of pieces) {
          if (piece.k === "g") {
            text.append(h("span", { class: "gap" }, `… ${piece.v} …`));
            continue;
          }
          const inner = piece.v.map((run) => (typeof run === "string" ? run : h("span", { class: "control", title: run[1] }, run[0])));
          if (piece.k === "p") text.append(h("span", { class: "period" + (copy++ % 2 ? " even" : "") }, inner));
          else if (piece.k === "l") text.append(h("span", { class: "looped" }, inner));
          else text.append(...inner);
        }
        if (!pieces.length) text.append(h("span", { class: "dim" }, "(empty)"));
        return text;
      }
      list.addEventListener("keydown", (event) => {
        const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity, j: 1, k: -1 };
        if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey || !shown.length) return;
        event.preventDefault();
        open(at + moves[event.key], true);
      });
      for (const control of [model, flag]) control.addEventListener("change", narrow);
      search.addEventListener("input", narrow);
      narrow();
      for (const button of document.querySelectorAll(`.link[data-on="${section.dataset.board}"]`)) {
        button.addEventListener("click", () => {
          const tab = document.getElementById(section.getAttribute("aria-labelledby"));
          if (tab && section.hidden) tab.click();
          reveal(Number(button.dataset.place));
        });
      }
      return openPrompt;
    }
  }

  // ---- the page ------------------------------------------------------------------------------------------------
  function theme() {
    const button = document.getElementById("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const stored = () => { try { return localStorage.getItem("smpo-theme"); } catch { return null; } };
    let chosen = stored();
    const isDark = () => (chosen ? chosen === "dark" : system.matches);
    function apply() {
      if (chosen) root.dataset.theme = chosen;
      button.textContent = isDark() ? "Light" : "Dark";
    }
    button.addEventListener("click", () => {
      chosen = isDark() ? "light" : "dark";
      try { localStorage.setItem("smpo-theme", chosen); } catch { /* pages from disk may have no storage */ }
      apply();
    });
    system.addEventListener("change", apply);
    button.hidden = false;
    apply();
  }
  function tabs() {
    const all = Array.from(document.querySelectorAll("[role=tab]"));
    if (!all.length) return;
    const panels = all.map((tab) => document.getElementById(tab.getAttribute("aria-controls")));
    function show(index, focus) {
      all.forEach((tab, i) => {
        tab.setAttribute("aria-selected", String(i === index));
        tab.tabIndex = i === index ? 0 : -1;
        panels[i].hidden = i !== index;
      });
      if (focus) all[index].focus();
    }
    all.forEach((tab, i) => {
      tab.addEventListener("click", () => { show(i, false); address.write(address.of(panels[i].id, {})); });
      tab.addEventListener("keydown", (event) => {
        const moves = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: all.length - 1 };
        if (!(event.key in moves)) return;
        event.preventDefault();
        show((moves[event.key] + all.length) % all.length, true);
      });
    });
    const named = () => panels.findIndex((panel) => panel.id === address.read().place);
    show(Math.max(0, named()), false);
    addEventListener("hashchange", () => { if (named() >= 0) show(named(), false); });
  }

  theme();
  document.querySelectorAll("[data-board]").forEach((section) => {
    const board = data.boards[Number(section.dataset.board)];
    if (board.entries.length) Board(section, board);
  });
  tabs();
  addEventListener("beforeprint", () => {
    for (const section of document.querySelectorAll(".board[hidden]")) section.dataset.tab = "closed";
    for (const section of document.querySelectorAll("[data-tab]")) section.hidden = false;
    for (const draw of remeasure) draw();
  });
  addEventListener("afterprint", () => {
    for (const section of document.querySelectorAll("[data-tab]")) { section.hidden = true; delete section.dataset.tab; }
    for (const draw of remeasure) draw();
  });
})();
