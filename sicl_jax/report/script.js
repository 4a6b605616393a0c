// Theme, tooltips of charts and of the map. Without this script the page lacks nothing but these.
"use strict";
const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
let chosen = null;
function showTheme() {
  root.dataset.theme = chosen ?? (dark.matches ? "dark" : "light");
}
dark.addEventListener("change", showTheme);
showTheme();
document.getElementById("theme").addEventListener("click", () => {
  chosen = root.dataset.theme === "dark" ? "light" : "dark";
  showTheme();
});

function place(tip, figure, x, y) {
  tip.style.display = "block";
  const right = x + tip.offsetWidth + 16 > figure.clientWidth;
  tip.style.left = `${Math.max(0, right ? x - tip.offsetWidth - 12 : x + 12)}px`;
  tip.style.top = `${Math.max(0, Math.min(y, figure.clientHeight - tip.offsetHeight))}px`;
}

// One of many things is shown at a time: the nearest to the pointer, or the next by arrow keys.
function explore(figure, svg, count, nearest, show, hide) {
  let now = -1;
  const go = (index) => {
    now = (index + count) % count;
    show(now);
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const view = svg.viewBox.baseVal;
    const x = ((event.clientX - box.left) / box.width) * view.width;
    const y = ((event.clientY - box.top) / box.height) * view.height;
    const index = nearest(x, y);
    if (index >= 0) go(index); else hide();
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("focus", () => { if (svg.matches(":focus-visible")) go(Math.max(now, 0)); });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) { go(now + step); event.preventDefault(); }
    if (event.key === "Escape") hide();
  });
}

for (const figure of document.querySelectorAll(".chart")) {
  const svg = figure.querySelector("svg[data-chart]");
  if (!svg) continue;
  const data = JSON.parse(svg.dataset.chart);
  const cursor = svg.querySelector(".cursor");
  const tip = figure.querySelector(".tip");
  const show = (i) => {
    const at = data.columns[i];
    cursor.setAttribute("x1", at.px);
    cursor.setAttribute("x2", at.px);
    cursor.style.visibility = "visible";
    tip.replaceChildren(...[`${data.x} ${at.x}`, ...at.values].map((words, line) => {
      const row = document.createElement(line ? "div" : "strong");
      row.textContent = words;
      return row;
    }));
    const scale = svg.clientWidth / svg.viewBox.baseVal.width;
    place(tip, figure, svg.offsetLeft + at.px * scale, svg.offsetTop + 8);
  };
  const hide = () => { cursor.style.visibility = "hidden"; tip.style.display = "none"; };
  const nearest = (x) => data.columns.reduce(
    (best, at, i) => (Math.abs(at.px - x) < Math.abs(data.columns[best].px - x) ? i : best), 0);
  explore(figure, svg, data.columns.length, nearest, show, hide);
}

for (const figure of document.querySelectorAll(".map")) {
  const svg = figure.querySelector("svg[data-map]");
  const points = [...svg.querySelectorAll(".point")];
  const tip = figure.querySelector(".tip");
  const thumb = document.createElement("span");
  thumb.className = "thumb";
  const words = document.createElement("span");
  tip.append(thumb, words);
  const data = JSON.parse(svg.dataset.map);
  thumb.style.backgroundImage = `url(${figure.querySelector("img.sprite").src})`;
  const hide = () => {
    tip.style.display = "none";
    for (const point of points) point.classList.remove("now");
  };
  const show = (i) => {
    hide();
    points[i].classList.add("now");
    const [x, y, column, row, name] = data.points[i];
    thumb.style.backgroundSize = `${data.columns * 64}px auto`;
    thumb.style.backgroundPosition = `${-64 * column}px ${-128 * row}px`;
    words.textContent = name;
    const scale = svg.clientWidth / svg.viewBox.baseVal.width;
    place(tip, figure, svg.offsetLeft + x * scale, svg.offsetTop + y * scale);
  };
  const nearest = (x, y) => {
    const far = data.points.map((point) => Math.hypot(point[0] - x, point[1] - y));
    const best = far.indexOf(Math.min(...far));
    return far[best] < 18 ? best : -1;
  };
  explore(figure, svg, points.length, nearest, show, hide);
}
