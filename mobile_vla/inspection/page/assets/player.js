// The player: frames of the chosen episode, and a chart of each signal whose cursor moves with the frame.
"use strict";

const page = JSON.parse(document.getElementById("page-data").textContent);
const player = document.querySelector(".player");
const part = (name) => player.querySelector(`.${name}`);
const [play, slider, picker, speed] = ["play", "frame", "episode", "speed"].map(part);

let episode = null, position = 0, timer = null, startedAt = 0, startedFrom = 0;
let images = [], charts = [];

function element(tag, options = {}, ...children) {
  const { className, text, ...attributes } = options;
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const short = (value) => Number(value.toPrecision(3)).toString();

// Lines have steps: an action holds until the next frame.
function pathOf(values, { rows }, { low, high }) {
  const scale = 40 / (high - low || 1), last = Math.max(episode.numFrames, 1);
  const y = (value) => Math.min(Math.max(40 - (value - low) * scale, -3), 43).toFixed(1);
  return values.map((value, at) => {
    const end = at + 1 < rows.length ? rows[at + 1] : last;
    return `${at ? "L" : "M"}${(100 * rows[at] / last).toFixed(2)} ${y(value)}H${(100 * end / last).toFixed(2)}`;
  }).join("");
}

function chartOf(chart, index) {
  const { lines } = episode, kinds = ["state", "actions"].filter((kind) => lines[kind][index]);
  if (!kinds.length) return null;
  const paths = kinds.map((kind) => svg("path", { class: kind, d: pathOf(lines[kind][index], lines, chart) }));
  if (chart.rest !== null && chart.rest >= chart.low && chart.rest <= chart.high) {
    const y = 40 - (chart.rest - chart.low) * 40 / (chart.high - chart.low || 1);
    paths.unshift(svg("path", { class: "rest", d: `M0 ${y}H100` }));
  }
  const what = kinds.map((kind) => (kind === "actions" ? "action" : "state")).reverse().join(" and ");
  const label = `${what} ${chart.name} from ${short(chart.low)} to ${short(chart.high)} ${chart.unit}`;
  const value = element("output", { "aria-live": "off" });
  const plot = element("div", { className: "plot" },
    svg("svg", { viewBox: "0 -2 100 44", preserveAspectRatio: "none", role: "img", "aria-label": label }, ...paths),
    element("span", { className: "cursor" }));
  plot.addEventListener("pointerdown", (event) => seek(event, plot));
  plot.addEventListener("pointermove", (event) => { if (event.buttons) seek(event, plot); });
  const name = element("bdi", { text: chart.name, title: chart.name });
  const head = element("figcaption", {}, name, element("span", { className: "unit", text: chart.unit }));
  const ends = element("div", { className: "ends" },
    element("span", { text: `${short(chart.low)} to ${short(chart.high)}` }), value);
  const className = ["chart", ...(chart.isUsed ? [] : ["unused"]), ...(kinds.length > 1 ? ["both"] : [])].join(" ");
  return { value, values: kinds.map((kind) => lines[kind][index]).reverse(),
    block: element("figure", { className }, head, plot, ends) };
}

function seek(event, plot) {
  const { left, width } = plot.getBoundingClientRect();
  const row = (event.clientX - left) / width * episode.numFrames;
  pause();
  show(episode.rows.filter((shown) => shown <= row).length - 1);
}

function choose(index) {
  pause();
  episode = page.episodes[index];
  picker.value = String(index);
  images = episode.cameras.map(({ name }) => element("img", { alt: "" }));
  part("cameras").replaceChildren(...images.map((image, at) =>
    element("figure", {}, image, element("figcaption", { text: episode.cameras[at].name }))));
  part("cameras").dataset.count = Math.min(images.length, 3);
  charts = page.charts.map(chartOf).filter(Boolean);
  part("charts").toggleAttribute("data-few", charts.length <= 4);
  part("charts").replaceChildren(...charts.map(({ block }) => block));
  const scenario = episode.scenario ? [element("b", { text: episode.scenario }), " "] : [];
  part("said").replaceChildren(...scenario, element("bdi", { text: episode.instruction }));
  slider.max = String(episode.rows.length - 1);
  show(0);
}

function show(wanted) {
  position = Math.min(Math.max(wanted, 0), episode.rows.length - 1);
  const row = episode.rows[position], time = (row / episode.rate).toFixed(1);
  const where = `frame ${row} of ${episode.numFrames}${episode.hasRate ? ` · ${time} s` : ""}`;
  images.forEach((image, at) => {
    image.src = `data:image/jpeg;base64,${episode.cameras[at].frames[position]}`;
    image.alt = `${episode.cameras[at].name}, frame ${row}`;
  });
  player.style.setProperty("--at", String((row + 0.5) / episode.numFrames));
  const point = episode.lines.rows.findLastIndex((start) => start <= row);
  for (const { value, values } of charts) value.textContent = values.map((line) => short(line[point])).join(" / ");
  slider.value = String(position);
  slider.setAttribute("aria-valuetext", where);
  part("where").textContent = where;
}

// The place follows the clock and not the number of ticks, so that a slow device skips frames and keeps the speed.
function tick() {
  const row = startedFrom + (performance.now() - startedAt) / 1000 * episode.rate * Number(speed.value);
  let next = position;
  while (next + 1 < episode.rows.length && episode.rows[next + 1] <= row) next += 1;
  if (next !== position) show(next);
  if (position === episode.rows.length - 1) pause();
  else timer = requestAnimationFrame(tick);
}

function start() {
  if (position === episode.rows.length - 1) show(0);
  restart();
  play.textContent = "Pause";
  timer = requestAnimationFrame(tick);
}

function restart() {
  startedAt = performance.now();
  startedFrom = episode.rows[position];
}

function pause() {
  cancelAnimationFrame(timer);
  timer = null;
  play.textContent = "Play";
}

const toggle = () => (timer === null ? start() : pause());

function step(by) {
  pause();
  show(position + by);
}

function stepEpisode(by) {
  choose((Number(picker.value) + by + page.episodes.length) % page.episodes.length);
}

const KEYS = { " ": toggle, ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => step(-Infinity), End: () => step(Infinity) };

if (page.episodes.length) {
  play.addEventListener("click", toggle);
  slider.addEventListener("input", () => { pause(); show(Number(slider.value)); });
  picker.addEventListener("change", () => choose(Number(picker.value)));
  speed.addEventListener("change", restart);
  part("previous").addEventListener("click", () => stepEpisode(-1));
  part("next").addEventListener("click", () => stepEpisode(1));
  player.addEventListener("keydown", (event) => {
    const { target, key } = event;
    // Lists and buttons have these keys for themselves; the slider has all but the space.
    if (event.ctrlKey || event.altKey || event.metaKey || target.closest("select, button") || !KEYS[key]) return;
    if (target === slider && key !== " ") return;
    event.preventDefault();
    KEYS[key]();
  });
  document.querySelectorAll("button[data-episode]").forEach((button) => button.addEventListener("click", () => {
    choose(Number(button.dataset.episode));
    show(episode.rows.filter((row) => row <= Number(button.dataset.frame)).length - 1);
    player.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    player.focus({ preventScroll: true });
  }));
  choose(0);
} else {
  player.hidden = true;
}
