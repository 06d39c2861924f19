"use strict";
// What may change is in elements with data-live; each is replaced by that of a page asked for anew.
const EVERY_MS = 5000;
const state = document.getElementById("state");
const filter = document.getElementById("filter");
const rows = document.getElementById("mappings");
const heads = [...document.querySelectorAll("[data-column]")];
let sorted = { column: -1, down: true };

function value(row, column) {
  const cell = row.cells[column];
  return "v" in cell.dataset ? Number(cell.dataset.v) : cell.textContent.toLowerCase();
}

function arrange() {
  const wanted = filter.value.toLowerCase();
  const all = [...rows.rows].filter((row) => row.cells.length > 1);
  if (sorted.column >= 0) {
    const sign = sorted.down ? -1 : 1;
    all.sort((a, b) => {
      const [x, y] = [value(a, sorted.column), value(b, sorted.column)];
      return x < y ? -sign : x > y ? sign : 0;
    });
    rows.append(...all);
  }
  for (const row of all) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  for (const head of heads) {
    const mine = Number(head.dataset.column) === sorted.column;
    head.closest("th").ariaSort = mine ? (sorted.down ? "descending" : "ascending") : "none";
  }
}

async function update() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.pathname, { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of document.querySelectorAll("[data-live]")) {
      const found = fresh.getElementById(old.id);
      if (found) old.replaceChildren(...found.childNodes);
    }
    arrange();
    state.textContent = `Updated at ${new Date().toLocaleTimeString()}.`;
    state.className = "dim";
  } catch {
    state.textContent = "The exporter does not answer; these numbers are old.";
    state.className = "no";
  }
}

for (const head of heads) {
  head.addEventListener("click", () => {
    const column = Number(head.dataset.column);
    sorted = { column, down: sorted.column === column ? !sorted.down : true };
    arrange();
  });
}
filter.addEventListener("input", arrange);
document.addEventListener("visibilitychange", update);
document.body.classList.add("scripted");
setInterval(update, EVERY_MS);
