"use strict";
// A tree as WAI-ARIA's patterns have it: one item can be reached with Tab, arrows lead to others.
for (const graph of document.querySelectorAll(".flames")) {
  const tree = graph.querySelector("[role=tree]");
  const said = graph.querySelector("[aria-live]");
  const first = tree.firstElementChild;
  const parent = (item) => item.parentElement.closest("[role=treeitem]");
  const child = (item) => item.querySelector("[role=treeitem]");
  const beside = (item, way) => {
    let next = item[way];
    while (next && (next.hidden || next.getAttribute("role") === "presentation")) next = next[way];
    return next;
  };
  const reach = (item) => {
    if (!item) return;
    tree.querySelector("[tabindex='0']").tabIndex = -1;
    item.tabIndex = 0;
    item.focus({ preventScroll: true });
    item.scrollIntoView({ block: "nearest" });
    said.textContent = item.getAttribute("aria-label");
  };
  const zoom = (item) => {
    for (const each of tree.querySelectorAll("li")) {
      each.hidden = false;
      each.classList.remove("through");
    }
    for (let at = item; at; at = parent(at)) {
      if (at !== item) at.classList.add("through");
      for (const other of at.parentElement.children) other.hidden = other !== at;
    }
    reach(item);
  };
  const keys = {
    ArrowDown: (item) => reach(child(item)),
    ArrowUp: (item) => reach(parent(item)),
    ArrowLeft: (item) => reach(beside(item, "previousElementSibling")),
    ArrowRight: (item) => reach(beside(item, "nextElementSibling")),
    Home: () => reach(first),
    Enter: zoom,
    " ": zoom,
    Escape: () => zoom(first),
  };
  tree.addEventListener("keydown", (event) => {
    const does = !event.ctrlKey && !event.altKey && !event.metaKey && keys[event.key];
    const item = event.target.closest("[role=treeitem]");
    if (!does || !item) return;
    event.preventDefault();
    does(item);
  });
  tree.addEventListener("click", (event) => {
    const item = event.target.closest("[role=treeitem]");
    if (item) zoom(item);
  });
  tree.addEventListener("mouseover", (event) => {
    const item = event.target.closest("[role=treeitem]");
    if (item) said.textContent = item.getAttribute("aria-label");
  });
  graph.querySelector("button").addEventListener("click", () => zoom(first));
}
