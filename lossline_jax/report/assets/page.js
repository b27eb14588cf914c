// What a reader can do with the page beyond reading it: point, filter, choose light or dark, take the numbers.
// Without it all is still there.
"use strict";
(() => {
  const root = document.documentElement;
  const NEAR = { mouse: 14, touch: 26 }; // pixels from a point that still mean it

  // --- Points: one tooltip, by mouse, finger or arrow keys.

  const tip = document.createElement("div");
  const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  const pointsOf = new Map(); // drawing -> its points
  const kin = new Map(); // run -> its points in all drawings
  let current = null;

  function collectPoints() {
    const names = JSON.parse(document.getElementById("names").textContent); // run -> its level as readers know it
    // The points of a large table share the mark of their run, and their titles leave it out.
    for (const element of document.querySelectorAll("svg.plot use[data-run], svg.plot g[data-run] > use")) {
      const title = element.querySelector("title");
      const drawing = element.closest("svg");
      const { run } = element.closest("[data-run]").dataset;
      const [x, y] = ["x", "y"].map((name) => Number(element.getAttribute(name)));
      const texts = title.textContent.split("\n");
      const [head, ...rest] = "run" in element.dataset ? texts : [run, ...texts];
      const lines = head === run && names[run] ? [names[run], ...rest, run] : [head, ...rest];
      const point = { element, drawing, run, x, y, lines };
      title.remove(); // else the browser shows its own beside ours
      for (const [map, key] of [[pointsOf, drawing], [kin, run]])
        if (map.has(key)) map.get(key).push(point); else map.set(key, [point]);
    }
  }

  const isShown = (point) => !point.element.closest(".filtered");

  function nearest(drawing, event) {
    const matrix = drawing.getScreenCTM();
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
    let best = null, least = (NEAR[event.pointerType] ?? NEAR.touch) / matrix.a;
    for (const point of pointsOf.get(drawing)) {
      const distance = Math.hypot(point.x - at.x, point.y - at.y);
      if (distance < least && isShown(point)) [best, least] = [point, distance];
    }
    return best;
  }

  function show(point) {
    if (current === point) return;
    hide();
    if (!point) return;
    current = point;
    for (const other of kin.get(point.run)) other.element.classList.add("same-run");
    point.element.classList.add("pointed");
    point.drawing.classList.add("lit");
    ring.setAttribute("cx", point.x);
    ring.setAttribute("cy", point.y);
    point.drawing.append(ring);
    tip.replaceChildren(...point.lines.map((text, k) => {
      const line = document.createElement(k ? "span" : "b");
      line.textContent = text;
      return line;
    }));
    tip.hidden = false;
    const box = point.element.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const middle = box.left + (box.width - own.width) / 2, above = box.top - own.height - 12;
    tip.style.left = `${Math.max(8, Math.min(middle, root.clientWidth - own.width - 8)) + scrollX}px`;
    tip.style.top = `${(above > 4 ? above : box.bottom + 12) + scrollY}px`;
  }

  function hide() {
    if (!current) return;
    for (const other of kin.get(current.run)) other.element.classList.remove("same-run");
    current.element.classList.remove("pointed");
    current.drawing.classList.remove("lit");
    current = null;
    ring.remove();
    tip.hidden = true;
  }

  // Left and right: along the points; up and down: to the next run.
  function walk(event) {
    if (event.key === "Escape") return hide();
    const points = pointsOf.get(event.currentTarget).filter(isShown);
    const along = { ArrowRight: 1, ArrowLeft: -1 }[event.key], across = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!points.length || !(along || across)) return;
    event.preventDefault();
    const turn = (k) => (k + points.length) % points.length;
    let k = points.indexOf(current);
    if (k < 0) k = 0;
    else if (along) k = turn(k + along);
    else {
      const from = points[k].run;
      for (let tried = 0; points[k].run === from && tried < points.length; tried++) k = turn(k + across);
    }
    show(points[k]);
  }

  function startPointing() {
    collectPoints();
    tip.id = "tip";
    tip.setAttribute("role", "status");
    tip.hidden = true;
    document.body.append(tip);
    ring.setAttribute("class", "ring");
    ring.setAttribute("r", 6.5);
    for (const drawing of pointsOf.keys()) {
      drawing.tabIndex = 0;
      drawing.addEventListener("pointermove", (event) => {
        if (event.pointerType === "mouse") show(nearest(drawing, event));
      });
      drawing.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
      drawing.addEventListener("click", (event) => show(nearest(drawing, event)));
      drawing.addEventListener("keydown", walk);
      drawing.addEventListener("blur", hide);
    }
    document.addEventListener("click", (event) => { if (!event.target.closest("svg.plot")) hide(); });
  }

  // --- Filter: the levels that alone are shown, none of a factor for all; kept in the address, so a view can be shared.

  const bar = document.getElementById("filter");

  function startFilter() {
    const levels = JSON.parse(document.getElementById("factors").textContent); // run -> factor -> level
    const chips = [...bar.querySelectorAll("button[data-factor]")];
    const marks = [...document.querySelectorAll("[data-run]")].map((element) => [element, [element.dataset.run]]);
    for (const element of document.querySelectorAll("[data-runs]"))
      marks.push([element, JSON.parse(element.dataset.runs)]);
    const runs = Object.keys(levels), shown = document.getElementById("shown"), all = document.getElementById("show-all");
    const isPressed = (chip) => chip.getAttribute("aria-pressed") === "true";

    function apply() {
      hide();
      const pressed = chips.filter(isPressed), wanted = new Map();
      for (const { dataset } of pressed)
        wanted.set(dataset.factor, (wanted.get(dataset.factor) ?? new Set()).add(dataset.level));
      const isOut = (run) => [...wanted].some(([factor, some]) => !some.has(levels[run]?.[factor]));
      const out = new Set(runs.filter(isOut));
      for (const [element, own] of marks)
        element.classList.toggle("filtered", own.length > 0 && own.every((run) => out.has(run)));
      shown.textContent = `showing ${runs.length - out.size} of ${runs.length} runs`;
      bar.classList.toggle("active", pressed.length > 0);
      all.hidden = pressed.length === 0;
      return new URLSearchParams(pressed.map(({ dataset }) => [dataset.factor, dataset.level])).toString();
    }

    function keep(view) {
      history.replaceState(null, "", view ? `#only?${view}` : location.pathname + location.search);
    }

    function read() {
      const [place, view] = location.hash.split("?");
      const wanted = new URLSearchParams(place === "#only" ? view : "");
      for (const chip of chips)
        chip.setAttribute("aria-pressed", wanted.getAll(chip.dataset.factor).includes(chip.dataset.level));
      apply();
    }

    bar.addEventListener("click", (event) => {
      const chip = event.target.closest("button");
      if (!chip) return;
      event.preventDefault(); // "show all" stands in the summary
      if (chip === all) for (const each of chips) each.setAttribute("aria-pressed", false);
      else chip.setAttribute("aria-pressed", !isPressed(chip));
      keep(apply());
    });
    addEventListener("hashchange", () => {
      if (location.hash.startsWith("#only?")) read();
      else if (chips.some(isPressed)) keep(apply()); // a link to a section led here: the view stays in the address
    });
    read();
    bar.hidden = false;
  }

  // --- Light and dark: as the system has it unless the reader says otherwise.

  function startTheme() {
    const choice = document.getElementById("theme");
    let stored = null;
    try { stored = localStorage.getItem("lossline-theme"); } catch { /* a file may have no storage */ }
    function paint(name) {
      if (name === "light" || name === "dark") root.dataset.theme = name; else delete root.dataset.theme;
      choice.value = root.dataset.theme ?? "auto";
    }
    paint(stored);
    choice.parentNode.hidden = false;
    choice.addEventListener("change", () => {
      paint(choice.value);
      try { localStorage.setItem("lossline-theme", choice.value); } catch { /* not kept, then */ }
    });
  }

  // --- Folded sections open when a link leads to them, and when the page is printed.

  function startFolds() {
    const folds = [...document.querySelectorAll("details.fold")];
    function reveal() {
      const id = location.hash.slice(1).split("?")[0];
      const fold = id ? document.getElementById(id)?.querySelector("details.fold") : null;
      if (!fold || fold.open) return;
      fold.open = true;
      fold.closest("section").scrollIntoView();
    }
    let closed = [];
    addEventListener("hashchange", reveal);
    addEventListener("beforeprint", () => {
      closed = folds.filter((fold) => !fold.open);
      for (const fold of closed) fold.open = true;
    });
    addEventListener("afterprint", () => { for (const fold of closed) fold.open = false; });
    document.addEventListener("click", (event) => { // a link to the section that the address names already
      if (event.target.closest("nav a")?.hash === location.hash) reveal();
    });
    reveal();
  }

  // --- Downloads are kept gzipped in the page, and come out as they were.

  async function unpack(event) {
    const link = event.target.closest("a[download$='.gz']");
    if (!link || typeof DecompressionStream === "undefined") return;
    event.preventDefault();
    const bytes = Uint8Array.from(atob(link.href.split(",")[1]), (letter) => letter.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const made = document.createElement("a");
    made.href = URL.createObjectURL(await new Response(plain).blob());
    made.download = link.download.slice(0, -3);
    made.click();
    setTimeout(() => URL.revokeObjectURL(made.href), 10000);
  }

  startTheme();
  startFolds();
  startPointing();
  if (bar) startFilter();
  document.addEventListener("click", unpack);
})();
