// The candidate table (sort, filter, more rows) and the plot's hover text.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const element = (tag, text = "", name = "") =>
  Object.assign(document.createElement(tag), { textContent: text, className: name });
const words = data.rows.map(row =>
  " " + row.choices.map((choice, i) => `${i + 1}:${data.choices[choice]}`).join(" ") + " ");
let sortBy = 0, down = true, shown = 50; // column 0 is top-1

function strip(row) {
  const box = element("span", "", "strip");
  for (const [i, choice] of row.choices.entries()) {
    const cell = element("i");
    cell.style.background = data.colors[choice];
    cell.title = `layer ${i + 1}: ${data.choices[choice]}`;
    box.append(cell);
  }
  box.title = row.choices.map(choice => data.choices[choice]).join(" ");
  return box;
}

function draw() {
  const wanted = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean)
    .map(word => (/^\d+:/.test(word) ? " " + word : word)); // 3:skip is not found in 13:skip
  const order = data.rows.map((_, i) => i)
    .filter(i => wanted.every(word => words[i].includes(word)))
    .sort((a, b) => (data.rows[a].values[sortBy] - data.rows[b].values[sortBy]) * (down ? -1 : 1)
      || a - b);
  const body = document.querySelector(".candidates tbody");
  body.replaceChildren(...order.slice(0, shown).map(i => {
    const line = element("tr", "", i === data.winner ? "winner" : "");
    data.rows[i].values.forEach((value, c) =>
      line.append(element("td", value.toFixed(data.columns[c].digits), "number")));
    const cell = element("td");
    cell.append(strip(data.rows[i]));
    line.append(cell);
    return line;
  }));
  document.getElementById("count").textContent =
    `${Math.min(shown, order.length)} of ${order.length} shown`;
  document.querySelector(".more").hidden = shown >= order.length;
  document.querySelectorAll(".candidates th button").forEach((button, c) => {
    button.parentNode.ariaSort = c !== sortBy ? "none" : down ? "descending" : "ascending";
    button.textContent = data.columns[c].name + (c !== sortBy ? "" : down ? " ▾" : " ▴");
  });
}

document.querySelectorAll(".candidates th button").forEach((button, c) =>
  button.addEventListener("click", () => {
    down = c === sortBy ? !down : c === 0;
    sortBy = c;
    draw();
  }));
document.getElementById("filter").addEventListener("input", () => { shown = 50; draw(); });
document.querySelector(".more").addEventListener("click", () => { shown += 200; draw(); });

const plot = document.getElementById("pareto");
plot.addEventListener("pointermove", event => {
  const box = plot.getBoundingClientRect(), { x0, x1, y0, y1 } = data.axes;
  const distance = row => Math.hypot(
    (row.values[data.costColumn] - x0) / (x1 - x0) * box.width - (event.clientX - box.left),
    (y1 - row.values[0]) / (y1 - y0) * box.height - (event.clientY - box.top));
  let nearest = data.rows[0];
  for (const row of data.rows) if (distance(row) < distance(nearest)) nearest = row;
  const text = data.columns.map((column, c) =>
    `${column.name} ${nearest.values[c].toFixed(column.digits)}`).join(", ");
  document.getElementById("hover").replaceChildren(`${text} `, strip(nearest));
});
draw();
