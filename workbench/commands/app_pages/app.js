// A page of the app: take the spinner away once the widget is drawn, and say so when it never is, or
// when its process has ended.
"use strict";

const PATIENCE = 60_000;
const EVERY = 5_000; // milliseconds between two looks at the process
const room = document.getElementById("room");

const TRIED = `tried:${location.pathname}`;

function drawn() {
  document.body.classList.add("drawn");
  room.setAttribute("aria-busy", "false");
  sessionStorage.removeItem(TRIED);
}

function again() {
  const button = document.createElement("button");
  button.className = "button";
  button.textContent = "Load the page again";
  button.addEventListener("click", () => location.reload());
  return button;
}

function problem(text) {
  const shown = document.createElement("p");
  shown.className = "failure problem";
  shown.setAttribute("role", "alert");
  shown.append(`${text} `, again());
  room.prepend(shown);
  room.setAttribute("aria-busy", "false");
}

// The page asks its process for the widget and waits for some seconds only. Once, it asks anew.
function unanswered() {
  if (sessionStorage.getItem(TRIED)) {
    problem("The process of this page answers too slowly. This computer is busy; close other pages and programs.");
  } else {
    sessionStorage.setItem(TRIED, "once");
    location.reload();
  }
}

if (room.querySelector(".failure")) {
  room.setAttribute("aria-busy", "false");
} else {
  const late = setTimeout(() => {
    problem("The page was not drawn within a minute. The console of the browser says more.");
  }, PATIENCE);
  const watch = new MutationObserver(() => {
    const lost = room.textContent.includes("widget: model not found");
    if (!lost && !room.querySelector(".wb, .widget-error, .jupyter-widgets-error-widget")) return;
    watch.disconnect();
    clearTimeout(late);
    if (lost) { unanswered(); return; }
    drawn();
    watchProcess();
  });
  watch.observe(room, { childList: true, subtree: true, characterData: true });
}

// Why nothing answers any more, or "" where all is well.
async function trouble(kernel) {
  try {
    const { ok, status } = await fetch(`/api/kernels/${kernel}`, { cache: "no-store", redirect: "manual" });
    if (ok) return "";
    if (status === 404) return "The Python process of this page has ended.";
    return "You are logged out.";
  } catch {
    return "The app does not answer. It was stopped, or the connection is gone.";
  }
}

function watchProcess() {
  const kernel = JSON.parse(document.getElementById("jupyter-config-data").textContent).kernelId;
  const said = document.createElement("p");
  const button = again();
  let leaving = false;
  said.className = "failure gone";
  said.setAttribute("role", "alert");
  const look = async () => {
    if (document.hidden || leaving) return;
    const found = await trouble(kernel);
    if (leaving || found === (said.dataset.found ?? "")) return;
    said.dataset.found = found;
    said.replaceChildren(`${found} Verdicts and grades that were written are kept. `, button);
    if (found) document.body.prepend(said); else said.remove();
  };
  setInterval(look, EVERY);
  document.addEventListener("visibilitychange", look);
  window.addEventListener("pagehide", () => { leaving = true; });
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
}

// What Voila calls when it is done.
window.voila_finish = () => {};
