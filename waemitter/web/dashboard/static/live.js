// One stream of changes for the page. What is live is drawn anew by the server, at most once in `data-every` milliseconds.
"use strict";
(() => {
  const live = () => document.getElementById("live");
  const lamp = () => document.getElementById("lamp");
  let last = 0;
  let timer = 0;

  const busy = () => {
    const field = document.activeElement;
    return document.hidden || (field && field.closest("#live form") && field.tagName !== "BUTTON");
  };
  const draw = () => {
    timer = 0;
    if (!live() || busy()) return;
    last = Date.now();
    htmx.trigger(live(), "refresh");
  };
  const changed = () => {
    if (!live() || timer) return;
    timer = setTimeout(draw, Math.max(0, last + Number(live().dataset.every) - Date.now()));
  };
  const say = (state, words) => {
    if (!lamp() || lamp().dataset.state === state) return;
    lamp().dataset.state = state;
    lamp().querySelector("span").textContent = words;
  };
  const listen = () => {
    if (!document.body.dataset.events) return;
    const stream = new EventSource(document.body.dataset.events);
    stream.onopen = () => { say("live", "Live"); changed(); };
    stream.onerror = () => say("away", "Reconnecting");
    stream.addEventListener("changed", changed);
    addEventListener("pagehide", () => stream.close());
  };
  // What has an end counts down, by the second: the server draws it anew only when something changes.
  const left = (ms) => {
    const s = Math.max(0, Math.round(ms / 1000));
    const two = (n) => String(n).padStart(2, "0");
    return `in ${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  };
  const tick = () => {
    for (const end of document.querySelectorAll("[data-until]")) {
      const ms = Number(end.dataset.until) - Date.now();
      end.textContent = ms > 0 ? left(ms) : "now";
    }
  };
  document.addEventListener("DOMContentLoaded", () => { tick(); setInterval(tick, 1000); });
  document.addEventListener("htmx:afterSwap", tick);
  document.addEventListener("visibilitychange", changed);
  document.addEventListener("DOMContentLoaded", listen);
  // A page that says that the database is away tries again by itself.
  document.addEventListener("DOMContentLoaded", () => {
    if (document.body.dataset.retry) setTimeout(() => location.reload(), Number(document.body.dataset.retry));
  });
})();
