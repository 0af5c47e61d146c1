// The behaviour of the page: decode the tables, filter, sort, copy as CSV, and draw each plot when it is scrolled near.

const decoded = new Map();

function tableRows(id) {
  if (!decoded.has(id)) {
    const columns = Object.entries(page.tables[id]).map(([name, column]) => [
      name, Array.isArray(column) ? column : column.codes.map((code) => column.levels[code])]);
    const length = columns.length ? columns[0][1].length : 0;
    decoded.set(id, Array.from({ length }, (_, row) => Object.fromEntries(columns.map(([name, values]) => [name, values[row]]))));
  }
  return decoded.get(id);
}

const boxes = [...document.querySelectorAll(".sampler input")];
const needle = document.getElementById("needle");
const wanted = () => needle.value.toLowerCase().split(",").map((part) => part.trim()).filter(Boolean);
const matches = (label) => !wanted().length || wanted().some((part) => label.toLowerCase().includes(part));
const isShown = (label) => matches(label) && boxes[page.samplers.findIndex((sampler) => sampler.label === label)].checked;

function stateOf(id) {
  const state = { id };
  for (const [name, first] of Object.entries(page.figures[id].switches)) {
    state[name] = document.querySelector(`input[name="${id}-${name}"]:checked`)?.value ?? first;
  }
  return state;
}

const drawn = new Set();

function draw(id) {
  drawn.add(id);
  const { kind, options } = page.figures[id], colour = theme();
  const place = document.querySelector(`[data-plot="${id}"]`);
  const rows = tableRows(id).filter((row) => isShown(row.sampler));
  place.hidden = rows.length === 0;
  if (place.hidden) return;
  const { traces, layout } = DRAW[kind](rows, stateOf(id), options);
  const axis = { gridcolor: colour("rule"), linecolor: colour("rule"), tickcolor: colour("rule"), fixedrange: isNarrow(), automargin: true };
  Plotly.react(place, traces, {
    paper_bgcolor: colour("paper"), plot_bgcolor: colour("paper"), showlegend: false, hovermode: "closest",
    font: { family: colour("plain"), size: 12, color: colour("ink") },
    margin: { l: 56, r: 16, t: 30, b: 48 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("muted"), activecolor: colour("ink") },
    hoverlabel: { bgcolor: colour("wash"), bordercolor: colour("rule"), align: "left",
      font: { family: colour("plain"), size: 12, color: colour("ink") } },
    ...layout, xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
  }, {
    responsive: true, displaylogo: false, displayModeBar: true,
    modeBarButtons: [["toImage", "resetScale2d"]],
    toImageButtonOptions: { format: "svg", filename: `${document.title}-${id}` },
  });
}

function applyFilter() {
  page.samplers.forEach(({ label }, index) => {
    boxes[index].closest("label").classList.toggle("out", !matches(label));
    for (const part of document.querySelectorAll(`tr[data-sampler="${index}"], polyline[data-sampler="${index}"]`)) {
      part.toggleAttribute("hidden", !isShown(label));
    }
  });
  drawn.forEach(draw);
}

function sortBy(header) {
  const body = header.closest("table").tBodies[0], column = header.cellIndex;
  const falls = header.getAttribute("aria-sort") === "ascending";
  const value = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
  const isMissing = (row) => !("sort" in row.cells[column].dataset);
  const rows = [...body.rows].sort((one, other) => {
    if (isMissing(one) !== isMissing(other)) return isMissing(one) ? 1 : -1;
    const order = value(one).localeCompare(value(other)), number = Number(value(one)) - Number(value(other));
    return (falls ? -1 : 1) * (Number.isNaN(number) ? order : number);
  });
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", falls ? "descending" : "ascending");
  body.append(...rows);
}

function csvOf(id) {
  const body = document.querySelector(`[data-table="${id}"] tbody`), names = Object.keys(page.tables[id]);
  const rows = body
    ? [...body.rows].filter((row) => !row.hidden).map((row) => tableRows(id)[row.dataset.row])
    : tableRows(id).filter((row) => isShown(row.sampler));
  // A text that a spreadsheet would run as a formula gets an apostrophe in front.
  const inert = (value) => (/^[=+@\t\r-]/.test(value) && Number.isNaN(Number(value)) ? `'${value}` : value);
  const quoted = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const field = (value) => quoted(inert(value ?? ""));
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((line) => line.map(field).join(",")).join("\n") + "\n";
}

async function copy(button) {
  const text = csvOf(button.dataset.copy);
  let isCopied = false;
  try {
    await navigator.clipboard.writeText(text);
    isCopied = true;
  } catch {
    // Browsers have no clipboard API on pages served over plain http, but a selected text can still be copied.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    isCopied = document.execCommand("copy");
    area.remove();
  }
  button.textContent = isCopied ? "Copied" : "Not allowed";
  setTimeout(() => { button.textContent = "Copy CSV"; }, 1500);
}

document.querySelectorAll("thead th").forEach((header) => header.addEventListener("click", () => sortBy(header)));
document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", () => copy(button)));
document.querySelectorAll(".switch input").forEach((input) =>
  input.addEventListener("change", () => draw(input.name.slice(0, input.name.lastIndexOf("-")))));
boxes.forEach((box) => box.addEventListener("change", applyFilter));
needle.addEventListener("input", applyFilter);

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(draw));
matchMedia("(max-width: 639px)").addEventListener("change", () => drawn.forEach(draw));
// Plots that were never scrolled near are not drawn yet, but must be on paper.
addEventListener("beforeprint", () => Object.keys(page.figures).forEach(draw));

// Drawing all plots at once would block the page while it loads, so each is drawn shortly before it becomes visible.
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    draw(target.dataset.plot);
  }
}, { rootMargin: "800px" });
document.querySelectorAll("[data-plot]").forEach((place) => near.observe(place));
applyFilter();
