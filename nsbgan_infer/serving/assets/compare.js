// Two pictures of one size, one over the other, with a divider, zoom and keyboard.
// Value: {sides: [{label, url}], width, height, tile}. A picture is `url/whole.png`; with a tile size it is
// `url/whole.jpg`, shrunk, and `url/ROW_COLUMN.jpg` where one looks closer.
"use strict";

window.nsbganCompare = (element, trigger, props, watch) => {
  const make = (tag, name, parent, text) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text) made.textContent = text;
    parent?.append(made);
    return made;
  };
  let view = null;

  function build() {
    const value = props.value;
    element.replaceChildren();
    if (!value?.sides) return;
    const box = make("div", "viewer", element);
    const stage = make("div", "stage", box);
    stage.tabIndex = 0;
    stage.setAttribute("role", "group");
    stage.setAttribute("aria-label",
      "Comparison. Arrows move the picture, Shift with arrows the divider, plus and minus zoom, 0 shows all, 1 is 100 %.");
    const layers = ["left", "right"].map((name) => {
      const layer = make("div", `layer ${name}`, stage);
      return { layer, plane: make("div", "plane", layer), tiles: new Map() };
    });
    const line = make("div", "divider", stage);
    const tags = ["left", "right"].map((name) => make("span", `tag ${name}`, stage));
    const tools = make("div", "tools", box);
    view = { value, box, stage, layers, line, tags, zoom: 0, x: 0, y: 0, split: 0.5, fit: true, picks: [0, value.sides.length > 2 ? 2 : 1] };
    if (value.sides.length > 2) view.picks = [1, 2];
    for (const [i, what] of ["Left", "Right"].entries()) {
      const select = make("select", "", make("label", "", tools, `${what} `));
      value.sides.forEach((side, n) => select.add(new Option(side.label, n, false, n === view.picks[i])));
      select.addEventListener("change", () => { view.picks[i] = Number(select.value); load(); });
    }
    const slider = make("input", "", make("label", "slide", tools, "Divider "));
    Object.assign(slider, { type: "range", min: 0, max: 100, value: 50 });
    slider.addEventListener("input", () => { view.split = slider.value / 100; draw(); });
    view.slider = slider;
    const zooms = make("div", "zooms", tools);
    for (const [text, to, said] of [["All", 0, "Show all"], ["100 %", 1, "100 %"], ["200 %", 2, "200 %"], ["400 %", 4, "400 %"]]) {
      const button = make("button", "", zooms, text);
      button.type = "button";
      button.dataset.zoom = to;
      button.setAttribute("aria-label", said);
      button.addEventListener("click", () => setZoom(to ? to / devicePixelRatio : 0));
    }
    stage.addEventListener("keydown", onKey);
    stage.addEventListener("pointerdown", onPointer);
    stage.addEventListener("wheel", onWheel, { passive: false });
    new ResizeObserver(() => { if (view?.stage === stage) { if (view.fit) fit(); else draw(); } }).observe(stage);
    load();
    fit();
  }

  function load() {
    view.layers.forEach((part, i) => {
      const side = view.value.sides[view.picks[i]];
      part.plane.replaceChildren();
      part.tiles.clear();
      part.url = side.url;
      const whole = make("img", "whole", part.plane);
      whole.src = `${side.url}/whole.${view.value.tile ? "jpg" : "png"}`;
      whole.alt = side.label;
      whole.draggable = false;
      view.tags[i].textContent = side.label;
      part.plane.style.width = `${view.value.width}px`;
      part.plane.style.height = `${view.value.height}px`;
    });
    draw();
  }

  const smallest = () => {
    const { width, height } = view.stage.getBoundingClientRect();
    return Math.min(width / view.value.width, height / view.value.height, 4);
  };

  function fit() {
    view.fit = true;
    view.zoom = smallest() || 0.1;
    draw();
  }

  function setZoom(to, at) {
    if (!to || to <= smallest() * 1.001 && to < 1 / devicePixelRatio) return fit();
    const box = view.stage.getBoundingClientRect(), [px, py] = at || [box.width / 2, box.height / 2];
    const before = view.zoom, zoom = Math.min(8, to);
    view.x = px - (px - view.x) * zoom / before;
    view.y = py - (py - view.y) * zoom / before;
    view.zoom = zoom;
    view.fit = false;
    draw();
  }

  function draw() {
    if (!view) return;
    const box = view.stage.getBoundingClientRect(), w = view.value.width * view.zoom, h = view.value.height * view.zoom;
    const keep = (at, size, room) => size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, at));
    view.x = keep(view.x, w, box.width);
    view.y = keep(view.y, h, box.height);
    const cut = view.split * 100;
    view.layers[0].layer.style.clipPath = `inset(0 ${100 - cut}% 0 0)`;
    view.layers[1].layer.style.clipPath = `inset(0 0 0 ${cut}%)`;
    view.line.style.left = `${cut}%`;
    view.slider.value = Math.round(cut);
    view.stage.classList.toggle("near", !view.fit);
    const real = view.zoom * devicePixelRatio;
    for (const part of view.layers) {
      part.plane.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
      part.plane.style.imageRendering = real >= 1.99 ? "pixelated" : "auto";
      if (view.value.tile) tile(part, box, real);
    }
    view.box.querySelectorAll("[data-zoom]").forEach((button) => {
      const to = Number(button.dataset.zoom);
      button.setAttribute("aria-pressed", String(to ? Math.abs(real - to) < 0.01 && !view.fit : view.fit));
    });
  }

  function tile(part, box, real) {
    const { tile: size, width, height } = view.value, wanted = new Set();
    if (real > 1600 / Math.max(width, height)) {
      const from = (at) => Math.max(0, Math.floor(-at / view.zoom / size));
      const to = (at, room, whole) => Math.min(Math.ceil(whole / size) - 1, Math.floor((room - at) / view.zoom / size));
      for (let row = from(view.y); row <= to(view.y, box.height, height); row++)
        for (let column = from(view.x); column <= to(view.x, box.width, width); column++) wanted.add(`${row}_${column}`);
    }
    for (const [place, image] of part.tiles) if (!wanted.has(place)) { image.remove(); part.tiles.delete(place); }
    for (const place of wanted) {
      if (part.tiles.has(place)) continue;
      const [row, column] = place.split("_").map(Number), image = make("img", "", part.plane);
      Object.assign(image.style, { left: `${column * size}px`, top: `${row * size}px`,
        width: `${Math.min(size, width - column * size)}px`, height: `${Math.min(size, height - row * size)}px` });
      image.alt = "";
      image.draggable = false;
      image.src = `${part.url}/${place}.jpg`;
      part.tiles.set(place, image);
    }
  }

  function onKey(key) {
    const step = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[key.key];
    if (step && key.shiftKey) view.split = Math.min(1, Math.max(0, view.split - step[0] * 0.05));
    else if (step) { view.x += step[0] * 60; view.y += step[1] * 60; }
    else if (key.key === "+" || key.key === "=") return key.preventDefault(), setZoom(view.zoom * 1.5);
    else if (key.key === "-") return key.preventDefault(), setZoom(view.zoom / 1.5);
    else if (key.key === "0") return fit();
    else if (key.key === "1") return setZoom(1 / devicePixelRatio);
    else return;
    key.preventDefault();
    draw();
  }

  function onWheel(wheel) {
    if (!wheel.ctrlKey && !wheel.metaKey) return; // the page scrolls
    wheel.preventDefault();
    const box = view.stage.getBoundingClientRect();
    setZoom(view.zoom * Math.exp(-wheel.deltaY / 200), [wheel.clientX - box.left, wheel.clientY - box.top]);
  }

  function onPointer(down) {
    const stage = view.stage, box = stage.getBoundingClientRect();
    const dividing = view.fit || Math.abs(down.clientX - box.left - view.split * box.width) < 16;
    let last = [down.clientX, down.clientY];
    stage.setPointerCapture(down.pointerId);
    const move = (to) => {
      if (dividing) view.split = Math.min(1, Math.max(0, (to.clientX - box.left) / box.width));
      else { view.x += to.clientX - last[0]; view.y += to.clientY - last[1]; }
      last = [to.clientX, to.clientY];
      draw();
    };
    if (dividing) move(down);
    stage.addEventListener("pointermove", move);
    const end = () => stage.removeEventListener("pointermove", move);
    stage.addEventListener("pointerup", end, { once: true });
    stage.addEventListener("pointercancel", end, { once: true });
  }

  watch("value", build);
  build();
};
