// What the page's own pieces of HTML do. Each function is called once for its piece: `element` holds it, `trigger` tells
// the server, `watch` says when the server has changed it.
"use strict";

window.nsbgan = (() => {
  const KEY = "nsbgan-history", MOST = 24, THUMB = 96;

  // A button with data-act triggers the event of that name, with its data-value.
  function acts(element, trigger, props, watch, events) {
    element.addEventListener("click", (click) => {
      const button = click.target.closest("[data-act]");
      if (button && events.includes(button.dataset.act)) trigger(button.dataset.act, { value: button.dataset.value });
    });
  }

  // Classes with pictures: one stop of the tabulator, arrows lead on.
  function tiles(element, trigger, props, watch, events) {
    acts(element, trigger, props, watch, events);
    element.addEventListener("keydown", (key) => {
      const all = [...element.querySelectorAll(".tile")], at = all.indexOf(document.activeElement);
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[key.key];
      const to = key.key === "Home" ? 0 : key.key === "End" ? all.length - 1 : step && at + step;
      if (at < 0 || to === undefined || !all[to]) return;
      key.preventDefault();
      all[at].tabIndex = -1;
      all[to].tabIndex = 0;
      all[to].focus();
    });
  }

  // On a phone, what goes on comes into sight once it begins.
  function show(element) {
    if (!element.dataset.seen && window.matchMedia("(max-width: 760px)").matches) {
      element.dataset.seen = "yes";
      element.scrollIntoView({ block: "start", behavior: "smooth" });
    }
  }

  // The line that says what goes on.
  function strip(element, trigger, props, watch) {
    watch("value", () => (element.querySelector("progress") ? show(element) : delete element.dataset.seen));
  }

  // Finished pictures: more like one, its settings, and what is remembered of them.
  function pictures(element, trigger, props, watch) {
    element.addEventListener("click", (click) => {
      const button = click.target.closest("[data-act]");
      if (!button) return;
      const sheet = button.closest(".sheet");
      const settings = { ...JSON.parse(sheet.dataset.settings || "{}"), ...JSON.parse(button.dataset.facts) };
      if (button.dataset.act === "like") {
        const way = String(Math.floor(Math.random() * 1e6));
        settings.like = settings.like ? `${settings.like}.${way}` : way;
        settings.count = 4;
        settings.threshold = 0;
      } else {
        settings.count = 1;
        document.querySelector("#more .label-wrap:not(.open)")?.click();
      }
      trigger(button.dataset.act, settings);
    });
    watch("value", () => {
      const sheet = element.querySelector(".sheet"), state = sheet?.dataset.state;
      if (state === "working") show(element);
      if (state !== "working") delete element.dataset.seen;
      if (state === "done") {
        window.history.replaceState(null, "", `?${sheet.dataset.query}`);
        const image = sheet.querySelector("img");
        const keep = () => remember(sheet, image);
        image.complete ? keep() : image.addEventListener("load", keep, { once: true });
      }
    });
  }

  function remember(sheet, image) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = THUMB;
    canvas.getContext("2d").drawImage(image, 0, 0, THUMB, THUMB);
    const entry = {
      query: sheet.dataset.query, settings: JSON.parse(sheet.dataset.settings), title: image.alt,
      thumb: canvas.toDataURL("image/webp", 0.7),
    };
    write([entry, ...read().filter((e) => e.query !== entry.query)].slice(0, MOST));
    window.dispatchEvent(new Event("nsbgan-history"));
  }

  function read() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY) || "[]");
      return Array.isArray(kept) ? kept.filter((e) => e && e.settings && String(e.thumb).startsWith("data:image/")) : [];
    } catch { return []; }
  }

  function write(entries) {
    try { localStorage.setItem(KEY, JSON.stringify(entries)); } catch { /* a private window keeps nothing */ }
  }

  // What this browser made before, newest first. It never leaves the browser.
  function history(element, trigger) {
    function show() {
      const entries = read();
      element.replaceChildren();
      if (!entries.length) return;
      const title = document.createElement("h2");
      title.textContent = "Made before in this browser";
      const row = document.createElement("div");
      row.className = "past";
      for (const entry of entries) {
        const button = document.createElement("button"), image = document.createElement("img");
        button.type = "button";
        image.src = entry.thumb;
        image.alt = `Make again: ${entry.title}`;
        image.width = image.height = THUMB;
        button.title = entry.title;
        button.append(image);
        button.addEventListener("click", () => trigger("again", entry.settings));
        row.append(button);
      }
      const forget = document.createElement("button");
      forget.type = "button";
      forget.className = "quiet";
      forget.textContent = "Forget all";
      forget.addEventListener("click", () => { write([]); show(); });
      title.append(forget);
      element.append(title, row);
    }
    window.addEventListener("nsbgan-history", show);
    show();
  }

  // A photo from the clipboard goes where one from a file would.
  document.addEventListener("paste", (paste) => {
    const files = paste.clipboardData?.files, fields = document.querySelectorAll("#photo, #invert-photo");
    const field = [...fields].find((f) => f.offsetParent)?.querySelector("input[type=file]");
    if (!files?.length || !field) return;
    field.files = files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  });

  return { acts, tiles, strip, pictures, history, compare: window.nsbganCompare };
})();
