// Convert tidy rows to plotly traces. Each drawing function takes (rows, state, options) and returns {traces, layout}.
// `rows` contains only the samplers that are shown; `state` has the selected value of each switch.
"use strict";

const page = JSON.parse(document.getElementById("page-data").textContent);
const styleOf = new Map(page.samplers.map(({ label, style }) => [label, style]));

function theme() {
  const css = getComputedStyle(document.documentElement);
  return (name) => css.getPropertyValue(`--${name}`).trim();
}

function look(sampler) {
  const style = styleOf.get(sampler), colour = theme();
  if (style === null) return { colour: colour("base"), dash: "solid", symbol: "diamond", width: 3 };
  return {
    colour: colour(`c${style % 8}`),
    dash: ["solid", "dash", "dot"][Math.floor(style / 8) % 3],
    symbol: ["circle", "square", "triangle-up"][Math.floor(style / 8) % 3],
    width: 2,
  };
}

function faded(colour, alpha) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgba(${red},${green},${blue},${alpha})`;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function deviation(values) {
  const centre = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1));
}

function grouped(rows, key) {
  const groups = new Map();
  for (const row of rows) {
    if (!groups.has(row[key])) groups.set(row[key], []);
    groups.get(row[key]).push(row);
  }
  return groups;
}

// plotly interprets <a href> and %{...} in texts, so labels are escaped.
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("%{", "%&#123;");

const short = (text) => Number(text.toPrecision(4)).toString();
const seeds = (rows, value) => rows.map((row) => `seed ${row.seed}: ${value(row)}`).join("<br>");
const isNarrow = () => document.documentElement.clientWidth < 640;

// The common beginning of all labels (model/head=) is left out on axes: it would take the space of the distinct part.
const sharedLength = (() => {
  const [first, ...others] = page.samplers.map(({ label }) => label);
  let length = others.length ? first.length : 0;
  while (!others.every((label) => label.startsWith(first.slice(0, length)))) length -= 1;
  return Math.max(first.lastIndexOf("=", length - 1), first.lastIndexOf("/", length - 1)) + 1;
})();

// Cut in the middle: labels of several choices differ at the end (stratified, model.state=all), scenarios at either.
function axisLabel(text, room = isNarrow() ? 16 : 34) {
  const label = styleOf.has(text) ? text.slice(sharedLength) : text;
  return plain(label.length > room ? `${label.slice(0, Math.ceil(room / 2) - 1)}…${label.slice(-Math.floor(room / 2))}` : label);
}

function nameAxis(samplers) {
  return {
    tickmode: "array", tickvals: samplers.map((_, index) => index),
    ticktext: samplers.map((label) => (styleOf.get(label) === null ? `<b>${axisLabel(label)}</b>` : axisLabel(label))),
    range: [samplers.length - 0.4, -0.6], zeroline: false, showgrid: false, automargin: true,
  };
}

function labelOf(state, name) {
  return plain(page.figures[state.id].labels[name][state[name]]);
}

// With two or three seeds an interval can be many times wider than the distance between the seeds, so that their points
// could not be distinguished: the range is limited by the points.
function aroundZero(points, ends) {
  const far = Math.max(...points.map(Math.abs)) * 1.7 || 1;
  const reach = Math.min(far, Math.max(...points.map(Math.abs), ...ends.map(Math.abs)) * 1.08);
  return [-reach, reach];
}

// A share is between 0 and 100 %, but mean ± spread can be outside.
function withinShares(points, ends) {
  const low = Math.min(...points, ...ends), high = Math.max(...points, ...ends), margin = 0.06 * (high - low) || 5;
  return [Math.max(low - margin, -1), Math.min(high + margin, 101)];
}

function intervals(rows, state, options) {
  const chosen = state.metric ?? state.suite, { unit, scale, better } = options.metrics[chosen];
  const shown = rows.filter((row) => (row.metric ?? row.suite) === chosen);
  const groups = grouped(shown, "sampler"), samplers = [...groups.keys()], ink = theme();
  const span = (low, high) => `[${short(low * scale)}, ${short(high * scale)}]`;
  const traces = samplers.flatMap((sampler, index) => {
    const { colour, symbol } = look(sampler), all = groups.get(sampler);
    const each = all.filter((row) => row.seed !== null), [whole] = all.filter((row) => row.seed === null);
    const bar = (low, high, style) => (low === null || low === undefined ? [] : [
      { x: [low * scale, high * scale], y: [index, index], mode: "lines", line: style, hoverinfo: "skip" }]);
    const range = whole.low === null ? "" : ` ${span(whole.low, whole.high)}`;
    const episodes = typeof whole.episode_low !== "number" ? ""
      : `<br>over episodes ${span(whole.episode_low, whole.episode_high)}`;
    return [
      ...bar(whole.episode_low, whole.episode_high, { color: faded(colour, 0.25), width: 9 }),
      ...bar(whole.low, whole.high, { color: colour, width: 2 }),
      { x: each.map((row) => row.value * scale), y: each.map(() => index + 0.26), mode: "markers",
        marker: { color: colour, size: 5, opacity: 0.55, symbol }, customdata: each.map((row) => row.seed),
        hovertemplate: `${plain(sampler)}, seed %{customdata}: %{x:.4g} ${unit}<extra></extra>` },
      { x: [whole.value * scale], y: [index], mode: "markers",
        marker: { color: whole.sure === 0 ? ink("paper") : colour, size: 10, symbol: "diamond", line: { color: colour, width: 2 } },
        hovertemplate: `<b>${plain(sampler)}</b> ${short(whole.value * scale)}${range} ${unit}${episodes}<br>${
          seeds(each, (row) => short(row.value * scale))}<extra></extra>` },
    ];
  });
  const points = shown.map((row) => row.value * scale);
  const ends = shown.flatMap((row) => [row.low, row.high, row.episode_low ?? null, row.episode_high ?? null])
    .filter((end) => end !== null).map((end) => end * scale);
  const range = options.zero ? aroundZero(points, ends) : withinShares(points, ends);
  const words = options.zero ? `difference in ${labelOf(state, "metric")}` : `success in ${chosen}`;
  return {
    traces,
    layout: {
      height: 110 + 30 * samplers.length,
      yaxis: nameAxis(samplers),
      xaxis: {
        title: { text: `${words}${unit && ` [${unit}]`}${options.zero ? `${isNarrow() ? "<br>" : " · "}${better === "less" ? "left" : "right"} is better` : ""}` },
        range, zeroline: options.zero, zerolinecolor: ink("ink"), zerolinewidth: 2,
      },
    },
  };
}

function curves(rows, state, options) {
  const { metric, axis } = state, scale = options.scale ?? 1, unit = options.units?.[metric] ?? "";
  const shape = options.shape ?? "linear";
  const known = rows.filter((row) => row[metric] !== null && row[axis] !== null);
  const bands = [], runs = [], means = [], samplers = grouped(known, "sampler"), faint = samplers.size > 10 ? 0.4 : 1;
  for (const [sampler, all] of samplers) {
    const { colour, dash, width } = look(sampler), bySeed = grouped(all, "seed");
    const common = [...grouped(all, options.group).values()].filter((group) => group.length === bySeed.size);
    const x = common.map((group) => mean(group.map((row) => row[axis])));
    const values = common.map((group) => group.map((row) => row[metric] * scale)), y = values.map(mean);
    // A null after each run makes a gap in the line, so that all runs of a sampler fit in one trace.
    const line = [...bySeed.values()].flatMap((run) => [...run, null]);
    if (bySeed.size > 1) {
      const half = values.map(deviation);
      bands.push({
        x: [...x, ...[...x].reverse()], y: [...y.map((v, i) => v + half[i]), ...y.map((v, i) => v - half[i]).reverse()],
        fill: "toself", fillcolor: faded(colour, 0.13 * faint), line: { width: 0, shape }, mode: "lines", hoverinfo: "skip",
      });
    }
    runs.push({
      x: line.map((row) => row && row[axis]), y: line.map((row) => row && row[metric] * scale), mode: "lines",
      line: { color: faded(colour, bySeed.size > 1 ? 0.35 * faint : 0), width: 1, dash, shape },
      customdata: line.map((row) => row && row.seed),
      hovertemplate: `${plain(sampler)}, seed %{customdata}<br>%{x:.6~g}: %{y:.4g} ${unit}<extra></extra>`,
    });
    means.push({
      x, y, mode: common.length > 15 ? "lines" : "lines+markers", line: { color: colour, width, dash, shape },
      marker: { size: 5, color: colour }, text: common.map((group) => seeds(group, (row) => short(row[metric] * scale))),
      hovertemplate: `<b>${plain(sampler)}</b> %{y:.4g} ${unit}<br>%{text}<extra></extra>`,
    });
  }
  // The large errors of the first tenth of the steps would compress the rest, so they do not set the range.
  const last = Math.max(...known.map((row) => row[options.group]));
  const scaling = known.filter((row) => !options.skips_start || row[options.group] >= last / 10).map((row) => row[metric] * scale);
  const low = options.from_zero ? 0 : Math.min(...scaling), high = Math.max(...scaling), margin = 0.06 * (high - low || 1);
  const range = options.skips_start || options.from_zero ? { range: [low - (options.from_zero ? 0 : margin), high + margin] } : {};
  return {
    traces: [...bands, ...runs, ...means],
    layout: {
      height: isNarrow() ? 320 : 430,
      xaxis: { title: { text: labelOf(state, "axis") }, zeroline: false,
        ...(options.group === axis && axis !== "step" ? { dtick: Math.ceil(last / (isNarrow() ? 6 : 12)) } : {}) },
      yaxis: { title: { text: `${labelOf(state, "metric")}${unit && ` [${unit}]`}` }, zeroline: false, ...range },
    },
  };
}

// Return black or white, whichever is easier to read on the colour at `share` (0 to 1) between two colours. It compares
// the relative luminance of sRGB with 0.18, where black and white text have the same contrast (WCAG).
function inkOn(from, to, share) {
  const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
  const end = channels(to), mixed = channels(from).map((value, at) => (value + (end[at] - value) * share) ** 2.2);
  return 0.2126 * mixed[0] + 0.7152 * mixed[1] + 0.0722 * mixed[2] > 0.18 ? "#000" : "#fff";
}

function heat(rows, state, options) {
  const groups = grouped(rows, "sampler"), samplers = [...groups.keys()], colour = theme();
  const slices = [...new Set(rows.map((row) => row[options.slice]))], isDifference = state.mode === "difference";
  const all = grouped(tableRows(state.id).filter((row) => row.sampler === options.baseline), options.slice);
  const cells = samplers.map((sampler) => {
    const parts = grouped(groups.get(sampler), options.slice);
    return slices.map((slice) => {
      const here = parts.get(slice), base = all.get(slice);
      if (!here || (isDifference && !base)) return null;
      return { value: mean(here.map((row) => row.rmse)) - (isDifference ? mean(base.map((row) => row.rmse)) : 0),
        text: seeds(here, (row) => short(row.rmse)) };
    });
  });
  const values = cells.flat().filter(Boolean).map((cell) => cell.value).sort((one, other) => one - other);
  // The scale ends at the 98th percentile, so that a few extreme cells do not make all others look alike.
  const top = values[Math.floor(0.98 * (values.length - 1))], size = Math.max(...values.map(Math.abs), 1e-12);
  const [zmin, zmax] = isDifference ? [-size, size] : [values[0], top];
  const stops = isDifference ? ["better", "low", "worse"] : ["low", "high"];
  const inkOf = (value) => {
    const at = Math.min(Math.max((value - zmin) / (zmax - zmin || 1), 0), 1) * (stops.length - 1);
    const first = Math.min(Math.floor(at), stops.length - 2);
    return inkOn(colour(stops[first]), colour(stops[first + 1]), at - first);
  };
  // Numbers are written into the cells only if a column is wide enough for them.
  const room = document.querySelector("main").clientWidth / slices.length;
  const shown = room > 62 ? cells.flatMap((line, row) => line.map((cell, at) => cell && { ...cell, row, at })).filter(Boolean) : [];
  const names = slices.map((slice) => axisLabel(String(slice), 28)), longest = Math.min(28, Math.max(...slices.map((slice) => String(slice).length)));
  const digits = (value) => `${isDifference && value >= 0 ? "+" : ""}${value.toFixed(3)}`;
  return {
    traces: [{
      type: "heatmap", z: cells.map((line) => line.map((cell) => cell && cell.value)),
      x: slices.map((_, index) => index), y: samplers.map((_, index) => index), xgap: 1, ygap: 1,
      customdata: cells.map((line, row) => line.map((cell, at) => [plain(samplers[row]), plain(slices[at]), cell ? cell.text : ""])),
      hovertemplate: `<b>%{customdata[0]}</b>, ${options.slice} %{customdata[1]}: %{z:.4g} ${options.unit}<br>%{customdata[2]}<extra></extra>`,
      colorbar: { thickness: 8, outlinewidth: 0, title: { text: options.unit, side: "right" } },
      showscale: !isNarrow(), zmin, zmax, colorscale: stops.map((name, at) => [at / (stops.length - 1), colour(name)]),
    }, {
      type: "scatter", mode: "text", hoverinfo: "skip", x: shown.map((cell) => cell.at), y: shown.map((cell) => cell.row),
      text: shown.map((cell) => digits(cell.value)), textfont: { size: 11, color: shown.map((cell) => inkOf(cell.value)) },
    }],
    layout: {
      // A scenario can be a whole instruction: its name is cut, and the plot is higher by what it takes.
      height: 120 + 30 * samplers.length + (isNarrow() ? 20 + 7 * longest : 2.5 * Math.max(longest - 12, 0)),
      yaxis: nameAxis(samplers),
      xaxis: { tickmode: "array", tickvals: slices.map((_, index) => index), ticktext: names,
        tickangle: typeof slices[0] === "number" ? 0 : isNarrow() ? -90 : -20, showgrid: false, zeroline: false, automargin: true,
        range: [-0.5, slices.length - 0.5],
        // Upright names would be under the title, and the section is named so already.
        title: { text: isNarrow() && typeof slices[0] !== "number" ? "" : options.slice } },
    },
  };
}

function shares(rows) {
  const scenarios = [...new Set(rows.map((row) => row.scenario))], groups = grouped(rows, "sampler");
  const samplers = [...groups.keys()], step = 0.8 / Math.max(samplers.length - 1, 1), ink = theme()("ink");
  const place = (scenario, index) => scenarios.indexOf(scenario) + (samplers.length > 1 ? index * step - 0.4 : 0);
  const traces = samplers.flatMap((sampler, index) => {
    const { colour, symbol } = look(sampler), parts = [...grouped(groups.get(sampler), "scenario").values()];
    const aims = parts.filter((part) => part.every((row) => row.target !== null));
    const y = (part) => place(part[0].scenario, index), at = (part, name) => 100 * mean(part.map((row) => row[name]));
    return [
      { x: aims.map((part) => at(part, "target")), y: aims.map(y), mode: "markers", hoverinfo: "skip",
        marker: { symbol: "circle-open", size: 11, color: colour, line: { width: 1.2 } } },
      { x: parts.map((part) => at(part, "drawn")), y: parts.map(y), mode: "markers",
        marker: { symbol, size: 6, color: colour },
        text: parts.map((part) => `${plain(part[0].scenario)}<br>target ${part[0].target === null ? "unknown"
          : `${short(at(part, "target"))} %`}<br>${seeds(part, (row) => `${short(100 * row.drawn)} %`)}`),
        hovertemplate: `<b>${plain(sampler)}</b> %{x:.4g} %, %{text}<extra></extra>` },
    ];
  });
  const natural = new Map(rows.filter((row) => row.natural !== null).map((row) => [row.scenario, 100 * row.natural]));
  const lines = [...natural].map(([scenario, x]) => ({ type: "line", x0: x, x1: x, y0: scenarios.indexOf(scenario) - 0.46,
    y1: scenarios.indexOf(scenario) + 0.46, line: { color: ink, width: 1.5 }, layer: "below" }));
  return {
    traces,
    layout: {
      height: 110 + scenarios.length * Math.max(34, 7 * samplers.length),
      shapes: lines,
      yaxis: { tickmode: "array", tickvals: scenarios.map((_, index) => index), ticktext: scenarios.map((scenario) => axisLabel(scenario)),
        range: [scenarios.length - 0.45, -0.55], showgrid: false, zeroline: false, automargin: true },
      xaxis: { title: { text: "share of draws [%]" }, zeroline: false, rangemode: "tozero" },
    },
  };
}

const DRAW = { intervals, curves, heat, shares };
