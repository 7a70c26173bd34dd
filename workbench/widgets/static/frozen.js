// A stand-in for Python in a page that was saved: answers from what the page holds.

export function frozenModel({ state, traits, maps, said }) {
  const listeners = [];
  const values = { ...traits, frozen: true };
  const known = new Map(maps.map(({ key, map }) => [JSON.stringify(key), map]));
  const there = new Set(["attention", ...maps.map(({ key }) => key[2])]);
  for (const side of state.sides) side.methods = side.methods.filter(({ name }) => there.has(name));
  if (!there.has(state.settings.method)) state.settings.method = "attention";
  if (!there.has(state.settings.second)) state.settings.second = "";
  for (const side of state.sides) { // one layer at a time would need Python
    side.methods = side.methods.map((method) => ({ ...method, layers: false, heads: false, prompt: true }));
  }
  Object.assign(state.settings, { layer: null, head: null });
  const part = (value) => value ?? "None";
  const aboutOf = ({ side, passage, choice }) => said.find((one) => one.side === side && one.passage === passage &&
    (choice.finding ? one.finding === choice.finding : !one.finding && one.start === choice.start && one.end === choice.end));
  const answer = (content) => {
    const { choice = {} } = content;
    if (content.ask === "state") return { answer: state };
    if (content.ask === "look") {
      const about = aboutOf(content)?.said;
      if (about?.failure) return { failure: about.failure, kind: "InputError" };
      return { answer: about ?? { details: "mean of all layers and heads", unit: "share of attention", title: "attention of a phrase" } };
    }
    if (content.ask === "map") {
      const key = [content.side, content.passage, content.method, part(content.layer), part(content.head),
        part(choice.start), part(choice.end), part(choice.finding)];
      const map = known.get(JSON.stringify(key));
      if (map) return { answer: map };
      return { failure: "This map is not in the saved page: it needs Python. Compute it in the notebook before saving.", kind: "absent" };
    }
    return { failure: "This needs Python; the page was saved without it.", kind: "absent" };
  };
  return {
    get: (name) => values[name],
    on(event, act) { listeners.push(act); },
    off(event, act) { listeners.splice(listeners.indexOf(act), 1); },
    send(content) {
      if (!("ask" in content)) return;
      queueMicrotask(() => { for (const act of [...listeners]) act({ id: content.id, ...answer(content) }); });
    },
  };
}
