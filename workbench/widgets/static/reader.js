// The reader study: a radiograph, a report, one key for the grade. Nothing here knows who wrote a report.
import { Front, alone, button, frame, isTyping, make, put, replace } from "./common.js";
import { BOX_KEYS } from "./boxes.js";
import { IMAGE_KEYS } from "./radiograph.js";
import { radiographPane, inTurn, keeper, keepingFocus, noteKeys, plainKey, pressedAhead, progressBar, verdictButton } from "./desk.js";

export function render({ model, el }) {
  const front = new Front(model);
  const app = frame(el, { title: model.get("title"), notice: model.get("notice"), fit: true, keys: [
    ["A  B  C  D", "your grade; written at once, then the next report comes"], ["z", "take the last grade back, once"],
    ["n", "write a note"], ["Esc", "leave the note"], ["f", "to the image"], ["i  m", "invert the image; drag moves it"], ...BOX_KEYS, ...IMAGE_KEYS] });
  app.root.classList.add("read");
  const pane = radiographPane(app, () => drafts.later());
  const page = readerPage();
  const bar = progressBar("Graded reports");
  const desk = { state: null, report: null, shown: false, failed: false, latest: 0 };
  put(app.tools, page.undo);
  put(page.main, pane.element, make("div", { class: "read-side" }, page.head, page.text));
  put(app.body, bar.element, page.instructions, page.main, page.grades, page.note);

  const typed = () => ({ comment: page.note.value, boxes: pane.boxes.value() });
  const drafts = keeper(() => (desk.report
    ? front.ask("draft", { item: desk.report.item, ...typed() }, { patience: 8000 }).then(() => app.say("What you typed and drew is kept."), app.fail) : null));
  page.note.addEventListener("input", () => drafts.later());
  const turns = inTurn(() => { notes.drop(); app.say("Keys that were pressed meanwhile were left out."); });
  const notes = noteKeys(turns, page.note, () => drafts.later());
  const ahead = pressedAhead(app.say);

  const counts = (state) => { desk.state = { ...desk.state, ...state }; };
  const draw = () => keepingFocus(app.root, () => {
    const { state, report } = desk;
    if (!state) return;
    bar.set(state.done, state.total, `${state.reader}: ${state.done.toLocaleString("en")} of ${state.total.toLocaleString("en")} graded`);
    drawGrades(page, state, grade);
    for (const one of page.buttons) { one.element.disabled = !report; one.set(false); }
    page.main.classList.remove("desk-leaving");
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
    const answer = await front.ask("show", {}, { patience: 60000 }); // reading a radiograph may take long
    desk.failed = false;
    counts(answer);
    const fresh = answer.report?.item !== desk.report?.item;
    desk.report = answer.report;
    desk.shown ||= Boolean(answer.report);
    if (fresh) page.note.value = answer.report?.comment ?? "";
    if (fresh) pane.boxes.set(answer.report?.boxes ?? "", "", desk.state.findings ?? [], answer.report?.item);
    draw();
    if (!answer.report) pane.wait("");
    else if (fresh) pane.show(answer.report.radiograph ?? { none: "This study was opened without images." }, true);
  };
  const tryNext = async () => {
    try { await next(); } catch (error) { desk.failed = true; pane.wait(""); draw(); app.fail(error); }
  };
  // Writes, then shows what is next; false where it was not written.
  const act = async (name, content) => {
    let written = true;
    try {
      const answer = await front.ask(name, content, { patience: 15000 });
      app.clear();
      counts(answer);
      app.say(`${answer.said[0].toUpperCase()}${answer.said.slice(1)}.`);
      drafts.drop();
      desk.report = null;
      pane.wait("Reading the image \u2026");
      draw();
    } catch (error) { app.fail(error); written = false; }
    await tryNext();
    return written && !desk.failed;
  };
  // A grade is about the report on the screen; one that was pressed before it came is shown first.
  const give = async (key, early) => {
    const { element, set } = page.buttons.find((one) => one.key === key);
    if (!desk.report) return false;
    if (early && !(await ahead.seen(element))) return true;
    set(true);
    page.main.classList.add("desk-leaving");
    return act("grade", { item: desk.report.item, grade: key, ...typed() });
  };
  const grade = (key) => {
    const early = turns.busy;
    if (ahead.replace()) turns.add(() => give(key, false), "grade", true);
    else if (desk.report || (early && desk.shown)) turns.add(() => give(key, early), "grade");
  };
  const takeLast = async () => {
    if (!desk.state?.undoable) { app.say("Only the last grade can be taken back."); return true; }
    if (drafts.waiting) await drafts.now();
    return act("undo", { seen: desk.state.undoable });
  };
  const undo = () => {
    if (turns.takeBack("grade") || ahead.takeBack()) app.say("Taken back before it was written.");
    else if (turns.busy || desk.state) turns.add(takeLast, "undo");
  };
  page.undo.addEventListener("click", undo);
  front.on("changed", ({ turn }) => { // another view has graded; what this one did itself is drawn by `act`
    desk.latest = Math.max(desk.latest, turn);
    turns.add(async () => {
      if (desk.latest <= (desk.state?.turn ?? 0)) return;
      if (drafts.waiting) await drafts.now();
      await tryNext();
    }, "");
  });

  const keys = { z: undo, n: () => notes.open(), f: () => pane.radiograph.canvas.focus(),
    i: () => pane.invert.element.click(), m: () => pane.hand.element.click(), x: () => pane.boxes.toggle.element.click() };
  app.root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && isTyping(event.target)) { drafts.now(); app.root.focus({ preventScroll: true }); return; }
    if ((event.ctrlKey || event.metaKey) && event.key === "z" && !isTyping(event.target)) { event.preventDefault(); undo(); return; }
    if (!isTyping(event.target) && notes.take(event)) { event.preventDefault(); return; }
    const key = plainKey(event, isTyping(event.target));
    const chosen = desk.state?.grades?.find((one) => one.key.toLowerCase() === key);
    if (key && !(chosen || keys[key])) pane.radiograph.shortcut(event);
    if (!key || !(chosen || keys[key])) return;
    event.preventDefault();
    if (chosen) grade(chosen.key); else keys[key]();
  });
  const leaving = () => drafts.now();
  window.addEventListener("pagehide", leaving);
  app.say(`${alone() ? "Grade" : "Click into the app, then grade"} with the keys A to D; ? shows all keys.`);
  front.ask("state", {}, { patience: 8000 }).then((state) => { counts(state); draw(); turns.add(tryNext, ""); }, app.fail);
  return () => { window.removeEventListener("pagehide", leaving); leaving(); pane.close(); front.close(); app.close(); };
}

function readerPage() {
  return {
    main: make("div", { class: "read-main" }), instructions: make("p", { class: "read-instructions" }), head: make("h3", { class: "read-head" }),
    text: make("p", { class: "read-text", "aria-live": "polite" }), buttons: [],
    grades: make("div", { class: "desk-verdicts", role: "group", "aria-label": "Grade" }),
    note: make("textarea", { class: "read-note", rows: 2, "aria-label": "Note", placeholder: "Note (n), written with your grade" }),
    undo: button("Undo", () => {}, { title: "Take the last grade back (z)" }),
  };
}

function drawGrades(page, state, grade) {
  if (page.buttons.length || !state.grades) return;
  page.buttons = state.grades.map(({ key, means }) => ({ key, ...verdictButton(key, means, "", () => grade(key)) }));
  replace(page.grades, page.buttons.map((one) => one.element));
}
