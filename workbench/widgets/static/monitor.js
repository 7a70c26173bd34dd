// The training monitor: how far a run is, its curves, and at the end what it changed.
import { Front, button, clamp, frame, isTyping, make, put, replace, slider, toggle } from "./common.js";
import { chart, numberText, smoothed } from "./chart.js";

const STATES = { // a shape and a word for each state; colour only repeats them
  waiting: ["\u25cb", "Waiting", "quiet"], starting: ["\u25d4", "Preparing", "busy"],
  running: ["\u25b6", "Running", "busy"], measuring: ["\u25d1", "Measuring", "busy"],
  silent: ["\u2026", "Silent", "warn"], stopped: ["\u25a0", "Stopped", "warn"], finished: ["\u2713", "Finished", "good"],
};
const CHANGES = { better: "\u25b2 better", worse: "\u25bc worse", "no clear change": "= no clear change" };
const NAMES = { macro_f1: "macro-F1", auroc: "AUROC", learning_rate: "Learning rate", loss: "Loss", epoch: "Epoch",
  loss_labelled: "Labelled", loss_unlabelled: "Unlabelled (held to the base)", grad_norm: "Gradient norm" };
const LOSSES = ["loss_labelled", "loss_unlabelled"]; // drawn apart where a run has both
const nameOf = (name) => NAMES[name] ?? name.replaceAll("_", " ");

export function render({ model, el }) {
  const front = new Front(model);
  const app = frame(el, { title: model.get("title"), notice: model.get("notice"), keys: [
    ["\u2190  \u2192", "one logged step back, on"], ["Home  End", "first, last step"], ["l", "loss on a logarithmic scale"],
    ["t", "numbers as a table"], ["r", "refresh"]] });
  const page = parts();
  const view = { run: { state: "waiting", curve: [] }, folder: "", cursor: null, log: null, table: false, smooth: 0 };
  put(app.body, page.head, page.tiles, page.reading, page.charts, page.table, page.ledger);

  const log = toggle("Log scale", false, (on) => { view.log = on; draw(); }, { title: "Loss on a logarithmic scale (l)" });
  const table = toggle("Table", false, (on) => { view.table = on; draw(); }, { title: "Numbers as a table (t)" });
  const look = () => front.ask("look", {}, { patience: 8000 }).then(() => app.say(`Refreshed at ${clockText()}.`), app.fail);
  const smooth = slider("Smoothing of the loss", { min: 0, max: 0.99, step: 0.01, value: 0, show: (value) => value.toFixed(2) },
    (value) => { view.smooth = value; draw(); });
  put(app.tools, smooth.field, log.element, table.element, button("Refresh", look, { title: "Read the folder now (r)" }));

  const draw = () => {
    const logged = view.log ?? widely(view.run.curve);
    log.set(logged);
    drawHead(page, view);
    drawTiles(page.tiles, view.run);
    drawCharts(page, view, logged, (step) => { view.cursor = step; draw(); });
    drawReading(page.reading, view);
    drawTable(page.table, view);
    drawLedger(page.ledger, view.run);
    const notice = app.root.querySelector(".wb-notice");
    if (notice && view.run.notice) replace(notice, make("span", { "aria-hidden": "true" }, "\u26a0 "), view.run.notice);
  };
  const take = (run) => {
    const before = view.run.state;
    view.run = { ...view.run, ...run };
    if (before !== view.run.state) app.say(`${(STATES[view.run.state] ?? STATES.waiting)[1]}.`);
    draw();
  };
  front.on("run", (message) => take(message.run));
  front.ask("state", {}, { patience: 8000 }).then((state) => { view.folder = state.folder; take(state.run); }, app.fail);

  const move = (act) => {
    const steps = (view.run.curve ?? []).map((row) => row.step);
    if (!steps.length) return;
    const at = view.cursor === null ? steps.length : steps.indexOf(view.cursor);
    view.cursor = steps[clamp(act(at, steps.length), 0, steps.length - 1)];
    draw();
  };
  const keys = {
    ArrowLeft: () => move((at) => at - 1), ArrowRight: () => move((at) => at + 1),
    Home: () => move(() => 0), End: () => move((_, count) => count - 1),
    Escape: () => { view.cursor = null; draw(); },
    l: () => log.element.click(), t: () => table.element.click(), r: look,
  };
  app.root.addEventListener("keydown", (event) => {
    if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  const resized = new ResizeObserver(draw);
  resized.observe(page.charts);
  app.root.addEventListener("wb-resized", draw);
  draw();
  return () => { resized.disconnect(); front.close(); app.close(); };
}

function parts() {
  return {
    head: make("div", { class: "mon-head" }),
    tiles: make("dl", { class: "mon-tiles" }),
    charts: make("div", { class: "mon-charts", tabindex: "0", role: "group", "aria-label": "Curves; arrow keys go from step to step" }),
    reading: make("p", { class: "mon-reading", "aria-live": "polite" }),
    table: make("div", { class: "mon-table" }),
    ledger: make("div", { class: "mon-ledger" }),
    width: 0,
  };
}

function drawHead(page, { run, folder }) {
  const [mark, word, tone] = STATES[run.state] ?? STATES.waiting;
  const done = run.steps ? clamp((run.step ?? 0) / run.steps, 0, 1) : 0;
  const who = [folder, run.name && run.name !== folder && run.name, run.stage && `stage ${run.stage}`, run.base && `on ${run.base}`];
  replace(page.head,
    make("span", { class: `mon-state mon-${tone}` }, make("span", { "aria-hidden": "true" }, mark), ` ${word}`),
    make("span", { class: "mon-who" }, who.filter(Boolean).join(" \u00b7 ")),
    make("div", { class: "mon-progress", role: "progressbar", "aria-label": "Steps", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(100 * done) },
      make("div", { class: "mon-done", style: `width: ${(100 * done).toFixed(1)}%` })),
    ["running", "finished"].includes(run.state) ? null : make("p", { class: `mon-words mon-${tone}` }, sentence(run.words)));
}

function drawTiles(place, run) {
  const step = run.step === null || run.step === undefined ? "\u2013" : run.step.toLocaleString("en");
  const best = run.best ? numberText(run.best.value) : "\u2013";
  const over = run.state === "finished";
  const tiles = [
    ["Step", step, [run.steps ? `of ${run.steps.toLocaleString("en")}` : "number unknown", passes(run)].filter(Boolean).join(", ")],
    [over ? "Took" : "Time left", over ? timeText(run.step / run.rate) : timeText(run.left), over ? "training alone" : !Number.isFinite(run.left) ? "not known" : run.early ? "or less: it may stop early" : "at this speed"],
    ["Speed", run.rate ? numberText(run.rate) : "\u2013", "steps a second"],
    [`Best ${NAMES[run.measure] ?? run.measure ?? ""}`.trim(), best, run.best ? `at step ${run.best.step.toLocaleString("en")}` : "not measured yet"],
    ["Memory", run.memory ? `${numberText(run.memory.bytes / 1e9)} GB` : "\u2013", run.memory?.as ?? "known at the end"],
  ];
  replace(place, tiles.map(([name, value, note]) => make("div", { class: "mon-tile" },
    make("dt", {}, name), make("dd", { class: "mon-value" }, value), make("dd", { class: "mon-note" }, note))));
}

function drawCharts(page, view, logged, choose) {
  const { run } = view;
  const rows = run.curve ?? [];
  const width = Math.round(page.charts.clientWidth) || 640;
  if (!rows.length) {
    replace(page.charts, make("p", { class: "mon-empty" }, run.state === "waiting"
      ? "Curves come here when a run has begun in this folder." : "The first numbers come with the first logged step."));
    return;
  }
  const span = [Math.min(0, rows[0].step), Math.max(run.steps ?? 0, rows.at(-1).step)];
  const shown = [["loss", { height: 250, log: logged }]];
  if (run.measure) shown.push([run.measure, { height: 190, dots: true, range: [0, 1.05] }]);
  const rates = rows.map((row) => row.learning_rate).filter((value) => usable(value));
  shown.push(["learning_rate", { height: 150, axis: true, range: [0, 1.08 * Math.max(0, ...rates) || 1] }]);
  replace(page.charts, shown.map(([name, options]) => {
    const apart = name === "loss" ? LOSSES.filter((one) => rows.some((row) => usable(row[one]))) : [];
    const raw = (apart.length > 1 ? apart : [name]).map((one, at) => ({ label: nameOf(one), second: at > 0,
      points: rows.filter((row) => usable(row[one], options.log)).map((row) => [row.step, row[one]]) }));
    const lines = name === "loss" && view.smooth ? [...raw.map((line) => ({ ...line, faint: true })), ...raw.map((line) => (
      { ...line, label: `${line.label}, smoothed`, points: smoothed(line.points, view.smooth) }))] : raw;
    const title = name === run.measure ? `Validation ${nameOf(name)}` : nameOf(name);
    const best = name === run.measure && run.best?.value !== undefined && run.best !== null
      ? { x: run.best.step, y: run.best.value, text: `best ${numberText(run.best.value)}, kept` } : null;
    const { svg, stepAt } = chart({ name: title, lines, span, width, cursor: view.cursor, best,
      label: lines.map(({ label, points }) => describe(lines.length > 1 ? `${title}, ${label}` : title, points)).join("; "), letters: parseFloat(getComputedStyle(page.charts).fontSize) || 17, ...options });
    svg.addEventListener("pointermove", (event) => choose(nearest(rows, stepAt(event.clientX - svg.getBoundingClientRect().left))));
    svg.addEventListener("pointerleave", () => choose(null));
    return svg;
  }));
}

function drawReading(place, { run, cursor }) {
  const rows = run.curve ?? [];
  const row = rows.find((one) => one.step === cursor) ?? rows.at(-1);
  if (!row) { replace(place); return; }
  const names = Object.keys(row).filter((name) => name !== "step" && usable(row[name]));
  replace(place, make("b", {}, `${cursor === null ? "Last logged step" : "Step"} ${row.step.toLocaleString("en")}: `),
    names.map((name) => `${nameOf(name)} ${numberText(row[name])}`).join(",  "));
}

function drawTable(place, { run, table }) {
  const rows = run.curve ?? [];
  if (!table || !rows.length) { replace(place); return; }
  const names = [...new Set(rows.flatMap(Object.keys))];
  replace(place, make("table", {}, make("caption", {}, `${rows.length} logged steps, the last first`),
    make("thead", {}, make("tr", {}, names.map((name) => make("th", { scope: "col", class: "mon-num" }, nameOf(name))))),
    make("tbody", {}, [...rows].reverse().map((row) => make("tr", {},
      names.map((name) => make("td", { class: "mon-num" }, usable(row[name]) ? numberText(row[name], 4) : "")))))));
}

function drawLedger(place, { ledger }) {
  if (!ledger) { replace(place); return; }
  const head = ["skill", "cases", "before", "after", "change [95 %]", ""];
  const groups = ["trained for", "not trained for"].map((kind) => [kind, ledger.rows.filter((row) => row.kind === kind)]);
  replace(place, make("h3", {}, "What changed"),
    ledger.rows.length > 0 && make("table", {}, make("thead", {}, make("tr", {}, head.map((name, at) => make("th", { scope: "col", class: at > 0 && at < 5 && "mon-num" }, name)))),
      groups.filter(([, rows]) => rows.length).map(([kind, rows]) => make("tbody", {},
        make("tr", {}, make("th", { colspan: 6, scope: "rowgroup", class: "mon-kind" }, kind)),
        rows.map((row) => make("tr", {}, make("td", {}, row.skill), make("td", { class: "mon-num" }, row.n),
          make("td", { class: "mon-num" }, fixed(row.before)), make("td", { class: "mon-num" }, fixed(row.after)),
          make("td", { class: "mon-num" }, row.change), make("td", { class: `mon-${row.verdict.split(" ")[0]}` }, CHANGES[row.verdict] ?? row.verdict)))))),
    make("ul", {}, [...ledger.lines, ...ledger.notes].map((line) => make("li", {}, line))));
}

function usable(value, log = false) { return Number.isFinite(value) && (!log || value > 0); }
function fixed(value) { return Number.isFinite(value) ? value.toFixed(3) : "undefined"; }
function sentence(text) { return text ? `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}` : ""; }
function passes({ curve = [] }) { const at = curve.findLast?.((row) => usable(row.epoch)); return at ? `epoch ${numberText(at.epoch)}` : ""; }
function clockText() { return new Date().toLocaleTimeString(); }

// Whether a loss spans so much that only a logarithmic scale shows all of it.
function widely(rows) {
  const values = (rows ?? []).flatMap((row) => (usable(row.loss_unlabelled) ? LOSSES.map((name) => row[name]) : row.loss)).filter((value) => usable(value, true));
  return values.length > 1 && Math.max(...values) / Math.min(...values) > 8;
}

function nearest(rows, step) {
  return rows.reduce((best, row) => (Math.abs(row.step - step) < Math.abs(best - step) ? row.step : best), rows[0].step);
}

function describe(name, points) {
  if (!points.length) return `${name}: no values yet`;
  const [first, last] = [points[0], points.at(-1)];
  return `${name} from ${numberText(first[1])} at step ${first[0]} to ${numberText(last[1])} at step ${last[0]}, ${points.length} values; the table has all`;
}

export function timeText(seconds) {
  if (!Number.isFinite(seconds)) return "\u2013";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}
