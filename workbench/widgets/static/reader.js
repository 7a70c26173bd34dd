// The reader study: a film, a report, one key for the grade. Nothing here knows who wrote a report.
import { Front, button, frame, isTyping, make, put, replace } from "./common.js";
import { FILM_KEYS } from "./film.js";
import { filmPane, keeper, keepingFocus, plainKey, progressBar, verdictButton } from "./desk.js";

export function render({ model, el }) {
  const front = new Front(model);
  const app = frame(el, { title: model.get("title"), notice: model.get("notice"), keys: [
    ["A  B  C  D", "your grade; written at once, then the next report comes"], ["z", "take the last grade back, once"],
    ["n", "write a note"], ["Esc", "leave the note"], ["f", "to the film"], ["i  m", "invert the film; drag moves it"], ...FILM_KEYS] });
  app.root.tabIndex = -1;
  const pane = filmPane(app);
  const page = readerPage();
  const bar = progressBar("Graded reports");
  const desk = { state: null, report: null, acting: false, failed: false };
  put(app.tools, page.undo);
  put(app.body, bar.element, page.instructions, make("div", { class: "read-main" }, pane.element,
    make("div", { class: "read-side" }, page.head, page.text)), page.grades, page.note);

  const drafts = keeper(() => (desk.report
    ? front.ask("draft", { item: desk.report.item, comment: page.note.value }, { patience: 8000 }).then(() => app.say("Your note is kept."), app.fail) : null));
  page.note.addEventListener("input", () => drafts.later());

  const counts = (state) => { desk.state = { ...desk.state, ...state }; };
  const draw = () => keepingFocus(app.root, () => {
    const { state, report } = desk;
    if (!state) return;
    bar.set(state.done, state.total, `${state.reader}: ${state.done.toLocaleString("en")} of ${state.total.toLocaleString("en")} graded`);
    drawGrades(page, state, grade);
    for (const one of page.buttons) one.element.disabled = !report;
    page.undo.disabled = !state.undoable;
    page.note.disabled = !report;
    replace(page.instructions, state.instructions);
    const over = state.total > 0 && state.done >= state.total;
    replace(page.head, report ? `Report ${report.position.toLocaleString("en")} of ${state.total.toLocaleString("en")}` : over ? "Done" : "");
    replace(page.text, report ? report.text : over ? "All reports are graded. Thank you. Your grades are saved; you may close this page."
      : desk.failed ? "The next report cannot be shown; the reason stands above. Your grades are saved." : "Reading the next report \u2026");
  });
  // Shows what is next; the clock of a report starts in Python when it is sent.
  const next = async () => {
    const answer = await front.ask("show", {}, { patience: 60000 }); // reading a film may take long
    desk.failed = false;
    counts(answer);
    const fresh = answer.report?.item !== desk.report?.item;
    desk.report = answer.report;
    if (fresh) page.note.value = answer.report?.comment ?? "";
    draw();
    if (!answer.report) pane.wait("");
    else if (fresh) pane.show(answer.report.film ?? { none: "This study was opened without films." }, true);
  };
  const tryNext = async () => {
    try { await next(); } catch (error) { desk.failed = true; pane.wait(""); draw(); app.fail(error); }
  };
  const act = async (name, content, clear) => {
    if (desk.acting || !desk.state) return;
    desk.acting = true;
    try {
      const answer = await front.ask(name, content, { patience: 15000 });
      app.clear();
      counts(answer);
      app.say(`${answer.said[0].toUpperCase()}${answer.said.slice(1)}.`);
      if (clear) { drafts.drop(); desk.report = null; pane.wait("Reading the film \u2026"); draw(); }
    } catch (error) { app.fail(error); }
    await tryNext();
    desk.acting = false;
    if (desk.missed) { desk.missed = false; refresh(); }
  };
  const grade = (key) => { if (desk.report) act("grade", { item: desk.report.item, grade: key, comment: page.note.value }, true); };
  const undo = async () => {
    if (desk.acting || !desk.state?.undoable) { app.say("Only the last grade can be taken back."); return; }
    if (drafts.waiting) await drafts.now();
    act("undo", { seen: desk.state.undoable }, true);
  };
  const refresh = async () => {
    desk.acting = true;
    await tryNext();
    desk.acting = false;
  };
  page.undo.addEventListener("click", undo);
  front.on("changed", ({ turn }) => { // another view has graded; what this one did itself is drawn by `act`
    if (desk.acting) desk.missed = turn > (desk.state?.turn ?? 0) + 1;
    else if (turn > (desk.state?.turn ?? 0)) refresh();
  });

  const keys = { z: undo, n: () => page.note.focus(), f: () => pane.film.canvas.focus(),
    i: () => pane.invert.element.click(), m: () => pane.hand.element.click() };
  app.root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && isTyping(event.target)) { drafts.now(); app.root.focus({ preventScroll: true }); return; }
    if ((event.ctrlKey || event.metaKey) && event.key === "z" && !isTyping(event.target)) { event.preventDefault(); undo(); return; }
    const key = plainKey(event, isTyping(event.target) || app.help.open);
    const chosen = desk.state?.grades?.find((one) => one.key.toLowerCase() === key);
    if (!key || !(chosen || keys[key])) return;
    event.preventDefault();
    if (chosen) grade(chosen.key); else keys[key]();
  });
  const leaving = () => drafts.now();
  window.addEventListener("pagehide", leaving);
  app.say("Click into the app, then grade with the keys A to D; ? shows all keys.");
  front.ask("state", {}, { patience: 8000 }).then((state) => { counts(state); draw(); return refresh(); }, app.fail);
  return () => { window.removeEventListener("pagehide", leaving); leaving(); pane.close(); front.close(); app.close(); };
}

function readerPage() {
  return {
    instructions: make("p", { class: "read-instructions" }), head: make("h3", { class: "read-head" }),
    text: make("p", { class: "read-text", "aria-live": "polite" }), buttons: [],
    grades: make("div", { class: "desk-verdicts", role: "group", "aria-label": "Grade" }),
    note: make("textarea", { class: "read-note", rows: 2, "aria-label": "Note", placeholder: "Note (n), written with your grade" }),
    undo: button("Undo", () => {}, { title: "Take the last grade back (z)" }),
  };
}

function drawGrades(page, state, grade) {
  if (page.buttons.length || !state.grades) return;
  page.buttons = state.grades.map(({ key, means }) => verdictButton(key, means, "", () => grade(key)));
  replace(page.grades, page.buttons.map((one) => one.element));
}
