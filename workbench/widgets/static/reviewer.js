// The reviewer: one suspected error at a time, its radiograph and both texts, and a verdict by one key.
import { Front, alone, button, frame, isTyping, make, menu, put, replace } from "./common.js";
import { IMAGE_KEYS } from "./radiograph.js";
import { BOX_KEYS } from "./boxes.js";
import { thumbnailsOf, walk } from "./grid.js";
import { radiographPane, inTurn, keeper, keepingFocus, noteKeys, paragraph, plainKey, pressedAhead, progressBar, verdictButton } from "./desk.js";

const MARKS = {
  asked: "the finding in question", also: "another finding in question", cue: "word that decides how it is read",
};
const KEPT_RADIOGRAPHS = 6;
const GRID_KEYS = "grqz"; // what is not about the one entry that a grid does not show

export function render({ model, el }) {
  const front = new Front(model);
  const app = frame(el, { title: model.get("title"), notice: model.get("notice"), fit: true, keys: reviewKeys() });
  app.root.classList.add("rev");
  const desk = { state: null, shown: null, latest: 0, radiographs: new Map(), form: null, editing: false };
  const view = layout(app, {
    act: (name, content = {}) => act(name, () => content), typed: () => typed(),
    edit: (on) => { desk.editing = on; draw(); if (on) view.report.focus(); },
  });
  const drafts = keeper(() => {
    if (!desk.state?.case) return null;
    return front.ask("draft", { n: desk.state.case.n, form: readForm(view) }, { patience: 8000 })
      .then(() => app.say("What you typed is kept."), app.fail);
  });
  const typed = () => { drafts.later(); markCorrection(view, desk); };

  const take = (answer) => {
    desk.state = { ...desk.state, ...answer };
    desk.latest = Math.max(desk.latest, answer.turn);
    keepingFocus(app.root, draw);
    if (answer.said) app.say(`${answer.said[0].toUpperCase()}${answer.said.slice(1)}.`);
  };
  const turns = inTurn(() => { notes.drop(); app.say("Keys that were pressed meanwhile were left out."); });
  const notes = noteKeys(turns, view.comment, typed);
  const ahead = pressedAhead(app.say);
  const ask = async (name, content) => {
    try {
      take(await front.ask(name, content, { patience: 15000 }));
      if (name !== "state") app.clear(); // a failure is read although what it is about is drawn anew
      return true;
    } catch (error) { app.fail(error); return false; } finally { view.main.classList.remove("desk-leaving"); }
  };
  // One act at a time, so that a verdict is always about the entry that is shown.
  const act = (name, content = () => ({})) => turns.add(async () => {
    if (!desk.state) return true;
    if (drafts.waiting) await drafts.now();
    return ask(name, content());
  }, name);
  const refresh = () => turns.add(async () => {
    if (desk.state && desk.latest <= desk.state.turn) return;
    if (drafts.waiting) await drafts.now();
    await ask("state", {});
  }, "");
  front.on("changed", ({ turn }) => { desk.latest = Math.max(desk.latest, turn); refresh(); });

  // A verdict is about the entry on the screen; one that was pressed before it came is shown first.
  const give = async (verdict, early) => {
    const { element, set } = view.verdicts.find((one) => one.name === verdict);
    if (early && !(await ahead.seen(element))) return true;
    const { case: shown } = desk.state;
    if (!shown) return false;
    drafts.drop();
    set(true);
    view.main.classList.add("desk-leaving");
    const written = await ask("judge", { n: shown.n, verdict, seen: shown.mine?.n ?? "", form: readForm(view) });
    if (!written) drawVerdicts(view, desk.state, judge);
    return written;
  };
  const judge = (verdict) => {
    const early = turns.busy;
    if (ahead.replace()) turns.add(() => give(verdict, false), "judge", true);
    else if (desk.state?.case) turns.add(() => give(verdict, early), "judge");
  };
  const undo = () => {
    if (turns.takeBack("judge") || ahead.takeBack()) app.say("Taken back before it was written.");
    else act("undo", () => ({ seen: desk.state.last?.n ?? "" }));
  };
  const go = (n) => { view.gridTo(false); return act("go", () => ({ n })); };
  const step = (by) => act("step", () => ({ by }));
  const turnList = (start) => front.ask("rows", { start }, { patience: 8000 }).then((list) => {
    desk.state.list = list;
    keepingFocus(app.root, () => { view.list.scrollTop = 0; drawList(view, desk.state, go); });
  }, app.fail);
  Object.assign(view, { judge, undo, typed, turnList });
  view.gridTo = (on) => {
    if (view.grid === on || !desk.state) return;
    setGrid(view, on);
    if (!on) thumbnails.stop();
    keepingFocus(app.root, () => drawList(view, desk.state, go));
    if (on) walk(view.list, "Here"); else app.root.focus({ preventScroll: true });
  };
  const thumbnails = view.thumbnails = thumbnailsOf(front);

  const radiographOf = (n) => {
    if (!desk.radiographs.has(n)) {
      const found = front.ask("radiograph", { n }).then((answer) => answer.radiograph ?? answer);
      found.catch(() => desk.radiographs.delete(n));
      desk.radiographs.set(n, found);
      while (desk.radiographs.size > KEPT_RADIOGRAPHS) desk.radiographs.delete(desk.radiographs.keys().next().value);
    }
    return desk.radiographs.get(n);
  };
  const showRadiograph = () => {
    const shown = desk.state.case;
    if (!shown) { view.pane.wait("No entry is listed."); return; }
    const { first } = shown; // all entries of a case share its image
    if (first === desk.shownRadiograph) return;
    if (!desk.radiographs.has(first)) view.pane.wait("Reading the image \u2026");
    desk.shownRadiograph = first;
    const own = radiographOf(first);
    view.pane.show(own, true);
    const { rows, place, start } = desk.state.list;
    const next = rows.slice((place ?? -1) - start + 1).find((row) => row.id !== shown.id && !row.verdict);
    if (next) own.finally(() => radiographOf(next.n)).catch(() => {});
  };
  const draw = () => {
    if (!desk.state) return;
    const { case: shown } = desk.state;
    const other = shown?.n !== desk.shown?.n;
    if (other) desk.editing = Boolean(shown?.form.report);
    drawHead(view, desk.state);
    drawCase(view, desk.state, desk.editing);
    if (other || !drafts.waiting) fillForm(view, shown); // what is being typed stays, whatever came from elsewhere
    desk.shown = shown;
    markCorrection(view, desk);
    drawVerdicts(view, desk.state, judge);
    drawList(view, desk.state, go);
    showRadiograph();
  };

  const keys = {
    z: undo, s: () => act("skip"), u: () => act("advance"), r: () => act("refresh"),
    ArrowRight: () => step(1), j: () => step(1), ArrowLeft: () => step(-1), k: () => step(-1),
    c: () => notes.open(), e: () => view.edit(true), d: () => { view.more.open = !view.more.open; },
    q: () => view.listToggle(), g: () => view.gridTo(!view.grid), f: () => view.pane.radiograph.canvas.focus(),
    i: () => view.pane.invert.element.click(), m: () => view.pane.hand.element.click(), x: () => view.pane.boxes.toggle.element.click(),
  };
  // In the grid keys walk, and none judges what is not shown.
  const inGrid = (event) => {
    if (!view.grid || isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) return false;
    if (event.key === "Escape") view.gridTo(false);
    else if (walk(view.list, event.key)) event.preventDefault();
    else return event.key.length === 1 && !GRID_KEYS.includes(event.key.toLowerCase()) && event.key !== " ";
    return true;
  };
  app.root.addEventListener("keydown", (event) => {
    if (inGrid(event)) return;
    if (event.key === "Escape" && isTyping(event.target)) { drafts.now(); app.root.focus({ preventScroll: true }); return; }
    if ((event.ctrlKey || event.metaKey) && event.key === "z" && !isTyping(event.target)) { event.preventDefault(); undo(); return; }
    if (!isTyping(event.target) && notes.take(event)) { event.preventDefault(); return; }
    const key = plainKey(event, isTyping(event.target));
    const verdict = desk.state?.words.verdicts.find((one) => one.key === key);
    if (key && !(verdict || keys[key])) view.pane.radiograph.shortcut(event);
    if (!key || !(verdict || keys[key])) return;
    event.preventDefault();
    if (verdict) judge(verdict.name); else keys[key]();
  });
  const leaving = () => drafts.now();
  window.addEventListener("pagehide", leaving);
  app.say(`${alone() ? "Judge" : "Click into the app, then judge"} with the keys 1 to 5; ? shows all keys.`);
  refresh();
  return () => { window.removeEventListener("pagehide", leaving); leaving(); view.sized.disconnect(); view.pane.close(); front.close(); app.close(); };
}

function reviewKeys() {
  return [["1 to 5", "your verdict, in the order of the buttons; written at once"], ["z", "undo your last verdict"],
    ["s", "skip: it comes again at the end"], ["\u2190  \u2192", "previous, next entry (also k, j)"],
    ["u", "next entry without a verdict"], ["c", "write a note"], ["e", "correct the reference report"],
    ["d", "severity, kind of error, truth"], ["Esc", "leave a text field"], ["q", "show or hide the list"],
    ["g", "the list as a grid of images; arrows walk, Enter opens one"],
    ["r", "read what others have written"], ["f", "to the image"], ["i  m", "invert the image; drag moves it"], ...BOX_KEYS, ...IMAGE_KEYS];
}

// ---------------------------------------------------------------------------------- the parts

function layout(app, { act, typed, edit }) {
  const view = { edit, pane: radiographPane(app, typed), bar: progressBar("Judged entries"), verdicts: [] };
  const filters = { kind: "", finding: "", state: "all" };
  const pick = (name) => (value) => act("filter", { ...view.filters, [name]: value });
  view.filters = filters;
  view.kind = menu("Reason", [], "", pick("kind"));
  view.finding = menu("Finding", [], "", pick("finding"));
  view.stateMenu = menu("Show", [], "all", pick("state"));
  view.saved = menu("Saved view", [], "", (name) => act("filter", view.views.find((one) => one.name === name)));
  view.keepButton = button("", () => act("keep_view", { keep: Number(!view.saved.select.value) }));
  view.gridButton = button("Grid", () => view.gridTo(!view.grid), { title: "The list as a grid of images (g)", "aria-pressed": "false" });
  view.listButton = button("List", () => view.listToggle(), { title: "Show or hide the list (q)" });
  view.filterRow = make("div", { class: "rev-filters" }, view.kind.field, view.finding.field, view.stateMenu.field, view.saved.field,
    view.keepButton, view.gridButton, view.listButton);
  view.notes = make("div", { class: "rev-notes" });
  view.what = make("div", { class: "rev-what" });
  view.model = make("section", { class: "rev-pane", "aria-label": "The model's report" });
  view.reference = make("section", { class: "rev-pane", "aria-label": "The reference report" });
  view.report = make("textarea", { class: "rev-report", rows: 5, "aria-label": "Corrected reference report", on: { input: typed } });
  view.corrected = make("p", { class: "rev-corrected" });
  view.editor = make("div", { class: "rev-editor" }, view.corrected, view.report,
    make("div", { class: "rev-row" }, button("Back to the original", () => { view.report.value = view.original ?? ""; typed(); edit(false); })));
  view.comment = make("textarea", { class: "rev-comment", rows: 2, "aria-label": "Note", placeholder: "Note (c), written with your verdict", on: { input: typed } });
  view.severity = menu("Severity", [], "", typed);
  view.true_ = menu("True is", [], "", typed);
  view.side = menu("On the side", [], "", typed);
  view.errors = make("fieldset", { class: "rev-errors" });
  view.more = make("details", { class: "rev-more" }, make("summary", {}, "Severity, kind of error, truth (d)"),
    make("div", { class: "rev-row" }, view.severity.field, view.true_.field, view.side.field), view.errors);
  view.buttons = make("div", { class: "desk-verdicts", role: "group", "aria-label": "Verdict" });
  view.others = make("div", { class: "rev-others" });
  view.findings = make("details", { class: "rev-findings" });
  view.list = make("nav", { class: "rev-list", "aria-label": "Entries" });
  const listed = () => getComputedStyle(view.list).display !== "none";
  view.listShown = () => view.listButton.setAttribute("aria-pressed", String(listed()));
  view.listToggle = () => {
    const open = listed();
    view.main.classList.toggle("rev-list-on", !open);
    view.main.classList.toggle("rev-list-off", open);
    view.listShown();
  };
  put(app.tools, button("\u25c0 Previous", () => act("step", { by: -1 }), { title: "Previous entry (\u2190)" }),
    button("Next \u25b6", () => act("step", { by: 1 }), { title: "Next entry (\u2192)" }),
    button("Skip", () => act("skip"), { title: "Leave for later (s)" }),
    button("Undo", () => view.undo(), { title: "Take your last verdict back (z)" }));
  const both = make("div", { class: "rev-both" }, view.model, view.reference);
  const texts = make("div", { class: "rev-texts" }, view.what, both, view.editor, view.others, view.findings);
  const left = make("div", { class: "rev-left" }, view.pane.element, view.comment, view.more);
  view.main = make("div", { class: "rev-main" }, view.list, left, texts);
  put(app.body, make("div", { class: "rev-top" }, view.bar.element, view.filterRow), view.notes, view.main, view.buttons);
  view.sized = new ResizeObserver(() => view.listShown());
  view.sized.observe(view.main);
  return view;
}

function drawHead(view, state) {
  const { progress, filters, words, choices, notes } = state;
  const part = progress.listed < progress.all ? ` here; ${progress.all_judged.toLocaleString("en")} of ${progress.all.toLocaleString("en")} in all` : "";
  view.bar.set(progress.judged, progress.listed, `${state.reviewer}: ${progress.judged.toLocaleString("en")} of ${progress.listed.toLocaleString("en")} judged${part}`);
  Object.assign(view.filters, filters);
  view.words = words;
  const counted = (rows, all) => [{ value: "", label: all }, ...rows.map(({ value, count }) => ({ value, label: `${value} (${count.toLocaleString("en")})` }))];
  view.kind.set(counted(choices.kinds, "every reason"), filters.kind);
  view.finding.set(counted(choices.findings, "every finding"), filters.finding);
  view.stateMenu.set(words.states, filters.state);
  view.views = state.views;
  const here = state.views.find((one) => Object.keys(filters).every((name) => one[name] === filters[name]));
  view.saved.set([...(here ? [] : [{ value: "", label: state.views.length ? "none of them" : "none yet" }]), ...state.views.map(({ name }) => name)], here?.name ?? "");
  view.saved.select.disabled = !state.views.length;
  view.keepButton.textContent = here ? "Forget view" : "Save view";
  view.keepButton.title = here ? "Take this view from the saved ones" : "Save reason, finding and \u201cShow\u201d as a view";
  replace(view.notes, notes.map((note) => make("p", { class: "wb-warning" }, note)));
}

function drawCase(view, state, editing) {
  const shown = state.case;
  view.original = shown?.reference_text ?? "";
  view.main.classList.toggle("rev-empty", !shown);
  if (!shown) {
    replace(view.what, make("p", { class: "desk-none" }, "No entry is listed. Choose another reason, finding or \u201cShow\u201d."));
    for (const one of [view.model, view.reference, view.others, view.findings]) replace(one);
    view.editor.hidden = true;
    view.findings.hidden = true;
    return;
  }
  const { place, total } = state.list;
  const facts = Object.entries(shown.facts).filter(([name]) => name !== "warnings").map(([name, value]) => `${name} ${value}`);
  replace(view.what,
    make("div", { class: "rev-line" }, make("span", { class: "rev-kind" }, shown.kind),
      make("span", { class: "rev-place" }, place === null ? "not in this list" : `${(place + 1).toLocaleString("en")} of ${total.toLocaleString("en")}`)),
    make("h3", { class: "rev-finding" }, shown.finding || "the whole report"),
    make("p", { class: "rev-why" }, shown.why.join("  \u00b7  ")),
    make("p", { class: "rev-facts" }, [shown.id, ...facts].join("  \u00b7  ")));
  replace(view.model, make("h4", {}, "The model writes"), marked(shown.report, "The model wrote nothing."));
  const corrected = shown.corrected && !editing;
  replace(view.reference,
    make("div", { class: "rev-line" }, make("h4", {}, corrected ? "Reference, corrected by you" : "Reference report"),
      !editing && button(shown.reference === null ? "Write one" : "Correct", () => view.edit(true), { class: "wb-button wb-small", title: "Correct the reference (e)" })),
    corrected ? paragraph([shown.corrected]) : marked(shown.reference, "There is no reference report."));
  view.editor.hidden = !editing;
  replace(view.others, othersLines(shown));
  drawFindings(view.findings, shown);
}

// Marked words carry what they say, so that colour is never all there is.
function marked(pieces, empty) {
  if (pieces === null || !pieces.length) return paragraph(null, empty);
  return paragraph(pieces.map(({ text, mark, says }) => (mark
    ? make("mark", { class: `rev-mark rev-${mark}`, title: `${MARKS[mark]}: ${says}` }, text,
      mark !== "cue" && make("span", { class: "rev-tag" }, mark === "asked" ? says.split(": ").slice(1).join(": ") : says))
    : text)));
}

function othersLines(shown) {
  if (!shown.others) return [];
  if (!shown.mine) return make("p", { class: "rev-quiet" }, `${shown.others === 1 ? "Another reviewer has" : `${shown.others} others have`} judged this; shown after your own verdict.`);
  return shown.others_said.map((one) => make("p", {}, make("b", {}, `${one.reviewer}: `), one.verdict, one.severity && `, ${one.severity}`, one.comment && ` \u2013 ${one.comment}`));
}

function drawFindings(place, shown) {
  place.hidden = !shown.findings.length;
  const head = ["finding", "model", "label", "reference report", ""];
  replace(place, make("summary", {}, `All findings of this case (${shown.findings.length})`),
    make("table", {}, make("thead", {}, make("tr", {}, head.map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, shown.findings.map((row) => make("tr", {}, make("th", { scope: "row" }, row.finding),
        [row.said, row.label, row.reported].map((code) => make("td", {}, code)), make("td", {}, row.disputed ? "\u2260 disputed" : ""))))));
}

function drawVerdicts(view, state, judge) {
  if (!view.verdicts.length) {
    view.verdicts = state.words.verdicts.map(({ key, name, means }) => ({ name, ...verdictButton(key, name, means, () => judge(name)) }));
    replace(view.buttons, view.verdicts.map((one) => one.element));
  }
  for (const one of view.verdicts) {
    one.set(state.case?.mine?.verdict === one.name);
    one.element.disabled = !state.case;
  }
}

function drawList(view, state, go) {
  const { rows, start, total, place } = state.list;
  const at = view.list.scrollTop;
  replace(view.list, make("ol", { start: start + 1 }, rows.map((row, index) => {
    const here = start + index === place;
    return make("li", {}, button([view.grid && view.thumbnails.element(row),
      make("span", { class: "rev-row-mark", "aria-hidden": "true" }, row.verdict ? "\u2713" : row.skipped ? "\u21b7" : "\u25cb"),
      make("span", { class: "rev-row-text" }, make("b", {}, row.finding || "whole report"), make("span", {}, `${row.id} \u00b7 ${row.kind}`),
        row.verdict && make("span", { class: "rev-row-verdict" }, row.verdict), row.skipped && make("span", {}, "skipped"))],
    () => go(row.n), { class: "rev-item", "aria-current": here ? "true" : null }));
  })));
  const [before, after] = [start, total - start - rows.length];
  const turn = (count, to, mark) => count > 0 && button(`${mark} ${count.toLocaleString("en")} more`, () => view.turnList(to), { class: "wb-button rev-turn" });
  view.list.prepend(turn(before, Math.max(0, start - rows.length), "\u25b2") || "");
  view.list.append(turn(after, start + rows.length, "\u25bc") || "");
  view.list.scrollTop = at;
  const here = view.list.querySelector("[aria-current]");
  if (here) {
    const [top, height] = [here.offsetTop - view.list.offsetTop, here.offsetHeight];
    if (top < view.list.scrollTop || top + height > view.list.scrollTop + view.list.clientHeight) view.list.scrollTop = top - view.list.clientHeight / 3;
  }
}

// ---------------------------------------------------------------------------------- the grid

function setGrid(view, on) {
  view.grid = on;
  view.main.classList.toggle("rev-grid", on);
  view.gridButton.setAttribute("aria-pressed", String(on));
  view.listButton.disabled = on;
}

// ---------------------------------------------------------------------------------- the form

function fillForm(view, shown) {
  const form = shown?.form ?? {};
  const texts = [[view.comment, form.comment ?? ""], [view.report, form.report || shown?.corrected || shown?.reference_text || ""]];
  for (const [area, text] of texts) {
    if (area.value !== text) area.value = text;
    area.disabled = !shown;
  }
  view.pane.boxes.set(form.boxes ?? "", shown?.finding ?? "", view.words?.findings ?? [], shown?.n);
  view.chosen = { severity: form.severity ?? "", true: form.true ?? "", side: form.side ?? "", errors: (form.errors ?? "").split("|").filter(Boolean) };
  setMore(view);
}

function setMore(view) {
  const { words, chosen } = view;
  if (!words) return;
  const open = (names) => [{ value: "", label: "not said" }, ...names.map((name) => ({ value: name, label: name }))];
  view.severity.set([{ value: "", label: "not said" }, ...words.severities.map(({ name, means }) => ({ value: name, label: `${name}: ${means}` }))], chosen.severity);
  view.true_.set(open(words.codes), chosen.true);
  view.side.set(open(words.sides), chosen.side);
  replace(view.errors, make("legend", { class: "wb-label" }, "The report is wrong in that a finding is"), words.errors.map((name) => make("label", { class: "rev-check" },
    make("input", { type: "checkbox", name, checked: chosen.errors.includes(name), on: { change: view.typed } }), name)));
}

function readForm(view) {
  const errors = [...view.errors.querySelectorAll("input:checked")].map((one) => one.name);
  return { comment: view.comment.value, report: view.report.value === (view.original ?? "") ? "" : view.report.value,
    severity: view.severity.select.value, true: view.true_.select.value, side: view.side.select.value, errors: errors.join("|"), boxes: view.pane.boxes.value() };
}

function markCorrection(view, desk) {
  const changed = view.report.value !== (view.original ?? "");
  view.corrected.textContent = changed ? "Corrected reference: kept as you type, written with your verdict" : "Correct the text; it is kept as you type and written with your verdict";
  view.editor.hidden = !desk.editing;
}
