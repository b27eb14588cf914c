// What a reader can do with the page beyond reading it: point, filter, choose light or dark. Without it all is still there.
"use strict";
(() => {
  const factors = JSON.parse(document.getElementById("factors").textContent);
  const root = document.documentElement;

  // Points: one tooltip, by mouse, finger or arrow keys.
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);
  let current = null;

  function show(point) {
    if (current === point) return;
    hide();
    current = point;
    point.classList.add("pointed");
    const drawing = point.closest("svg");
    for (const other of drawing.querySelectorAll("[data-run]"))
      if (other.dataset.run === point.dataset.run) other.classList.add("same-run");
    tip.replaceChildren(...point.dataset.title.split("\n").map((text, k) => {
      const line = document.createElement(k ? "span" : "b");
      line.textContent = text;
      return line;
    }));
    tip.hidden = false;
    const box = point.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), root.clientWidth - own.width - 8);
    const above = box.top - own.height - 10;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${(above > 4 ? above : box.bottom + 10) + scrollY}px`;
  }

  function hide() {
    if (!current) return;
    for (const point of current.closest("svg").querySelectorAll(".pointed, .same-run"))
      point.classList.remove("pointed", "same-run");
    current = null;
    tip.hidden = true;
  }

  for (const point of document.querySelectorAll("[data-run] > title")) {
    point.parentNode.dataset.title = point.textContent;
    point.remove(); // else the browser shows its own beside ours
  }
  const pointAt = (event) => event.target.closest?.("svg.plot [data-run]");
  document.addEventListener("pointerover", (event) => { const point = pointAt(event); if (point) show(point); });
  document.addEventListener("pointerout", (event) => { if (event.pointerType === "mouse" && pointAt(event)) hide(); });
  document.addEventListener("pointerdown", (event) => { const point = pointAt(event); point ? show(point) : hide(); });
  for (const drawing of document.querySelectorAll("svg.plot")) {
    if (!drawing.querySelector("[data-run]")) continue;
    drawing.tabIndex = 0;
    drawing.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return hide();
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const points = [...drawing.querySelectorAll("[data-run]:not(.filtered)")];
      const k = current && points.includes(current) ? points.indexOf(current) + step : 0;
      if (points.length) show(points[(k + points.length) % points.length]);
    });
    drawing.addEventListener("blur", hide);
  }

  // Filter: levels that are switched off, kept in the address so that a view can be shared.
  const bar = document.getElementById("filter");
  const boxes = bar ? [...bar.querySelectorAll("input[type=checkbox]")] : [];
  const runs = Object.keys(factors);

  function filter() {
    const off = boxes.filter((box) => !box.checked);
    const hidden = new Set(runs.filter((run) => off.some((box) => factors[run][box.dataset.factor] === box.value)));
    for (const mark of document.querySelectorAll("[data-run]"))
      mark.classList.toggle("filtered", hidden.has(mark.dataset.run));
    for (const mark of document.querySelectorAll("[data-runs]"))
      mark.classList.toggle("filtered", JSON.parse(mark.dataset.runs).every((run) => hidden.has(run)));
    document.getElementById("shown").textContent =
      `${runs.length - hidden.size} of ${runs.length} runs shown`;
    bar.classList.toggle("active", off.length > 0);
    hide();
    const kept = new URLSearchParams(off.map((box) => [box.dataset.factor, box.value])).toString();
    const address = location.pathname + location.search + (kept ? `#hide?${kept}` : "");
    if (kept || location.hash.startsWith("#hide?")) history.replaceState(null, "", address);
  }

  function read() {
    const [place, kept] = location.hash.split("?");
    const off = new URLSearchParams(place === "#hide" ? kept : "");
    for (const box of boxes) box.checked = !off.getAll(box.dataset.factor).includes(box.value);
  }

  if (bar) {
    read();
    filter();
    bar.hidden = false;
    bar.addEventListener("change", filter);
    bar.querySelector("button").addEventListener("click", () => {
      for (const box of boxes) box.checked = true;
      filter();
    });
    addEventListener("hashchange", () => { if (location.hash.startsWith("#hide?")) { read(); filter(); } });
  }

  // Light and dark: as the system has it unless the reader says otherwise.
  const theme = document.getElementById("theme");
  let stored = null;
  try { stored = localStorage.getItem("lossline-theme"); } catch { /* a file may have no storage */ }
  function paint(name) {
    if (name === "light" || name === "dark") root.dataset.theme = name; else delete root.dataset.theme;
    theme.value = root.dataset.theme ?? "auto";
  }
  paint(stored);
  theme.parentNode.hidden = false;
  theme.addEventListener("change", () => {
    paint(theme.value);
    try { localStorage.setItem("lossline-theme", theme.value); } catch { /* not kept, then */ }
  });

  // Downloads are kept gzipped in the page, and come out as they were.
  document.addEventListener("click", async (event) => {
    const link = event.target.closest?.("a[download$='.gz']");
    if (!link || typeof DecompressionStream === "undefined") return;
    event.preventDefault();
    const bytes = Uint8Array.from(atob(link.href.split(",")[1]), (letter) => letter.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const made = document.createElement("a");
    made.href = URL.createObjectURL(await new Response(plain).blob());
    made.download = link.download.slice(0, -3);
    made.click();
    setTimeout(() => URL.revokeObjectURL(made.href), 10000);
  });
})();
