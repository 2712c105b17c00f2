// Keys, and parts of a page that a training run changes. Every page works without this script.
"use strict";

const rows = () => [...document.querySelectorAll("[data-row]")];

function move(step) {
  const all = rows();
  if (!all.length) return;
  const now = all.indexOf(document.activeElement.closest("[data-row]"));
  const next = all[Math.min(Math.max(now + step, 0), all.length - 1)];
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "start" });
}

function follow(selector) {
  const link = document.querySelector(selector);
  if (link) link.click();
}

const keys = {
  "/": () => document.querySelector("input[type=search]")?.focus(),
  j: () => move(1),
  k: () => move(-1),
  o: () => document.activeElement.closest("[data-row]")?.querySelector("a[data-open]")?.click(),
  n: () => follow("a[rel=next]"),
  p: () => follow("a[rel=prev]"),
  "?": () => document.getElementById("keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const tab = /^[1-9]$/.test(event.key) && document.querySelectorAll(".tabs a")[event.key - 1];
  const act = tab ? () => tab.click() : keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

for (const button of document.querySelectorAll("[data-keys]")) {
  button.hidden = false;
  button.addEventListener("click", keys["?"]);
}

// on a narrow window the open tab may be beyond its edge
const open = document.querySelector(".tabs [aria-current]");
if (open) open.parentElement.scrollLeft = open.offsetLeft - open.parentElement.offsetLeft - 40;

// a filter that was left empty stays out of the address
for (const form of document.querySelectorAll("form.filters")) {
  form.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
  });
}
for (const field of document.querySelectorAll("form.filters:not([data-by-hand]) select")) {
  field.addEventListener("change", () => field.form.requestSubmit());
}

// `data-live="SECONDS"`: fetch this page again, and replace the elements that have an id and `data-live`
const live = document.querySelector("[data-live]");
if (live) {
  const refresh = async () => {
    try {
      const response = document.hidden ? null : await fetch(location.href, { headers: { Accept: "text/html" } });
      if (response?.ok) {
        const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
        for (const old of document.querySelectorAll("[data-live]")) {
          const found = fresh.getElementById(old.id);
          if (!found || found.outerHTML === old.outerHTML || old.contains(document.activeElement)) continue;
          const next = document.importNode(found, true);
          // a picture takes the place of the one before when it is there, and nothing flickers
          await Promise.all([...next.querySelectorAll("img")].map((image) => image.decode().catch(() => {})));
          old.replaceWith(next);
        }
        if (!fresh.querySelector("[data-live]")) return;
      }
    } catch {
      // the server was stopped, or the machine sleeps: try again later
    }
    setTimeout(refresh, 1000 * Number(live.dataset.live));
  };
  setTimeout(refresh, 1000 * Number(live.dataset.live));
}
