// The menus, switches and the slider of the explorer; what they change is the explorer's.
import { menu, slider, toggle } from "./common.js";
import { COLOUR_NAMES } from "./words.js";

export function controlsOf(view) {
  const { settings } = view;
  const methods = view.methods();
  const set = (name) => (value) => view.set({ [name]: value });
  const caution = (method) => `${method.label}${method.caution ? " \u26a0" : ""}`;
  const menus = {
    method: menu("Method", methods.map((m) => ({ value: m.name, label: caution(m) })), settings.method,
      (value) => view.set({ method: value, layer: null, head: null }, true)),
    second: menu("Second map", [{ value: "", label: "none" },
      ...methods.map((m) => ({ value: m.name, label: caution(m) }))], settings.second,
      async (value) => { view.set({ second: value, ...(value ? { lateral: false } : {}) }, false, false); await view.buildPanels(); view.update(true); }),
    layer: menu("Layer", [], "", (value) => view.set({ layer: value === "" ? null : Number(value) }, true)),
    head: menu("Head", [], "", (value) => view.set({ head: value === "" ? null : Number(value) }, true)),
    sign: menu("Sign", [{ value: "both", label: "for and against" }, { value: "for", label: "for" },
      { value: "against", label: "against" }], settings.sign, set("sign")),
    colour: menu("Colour words by", Object.entries(COLOUR_NAMES).map(([value, label]) => ({ value, label })), settings.colour,
      (value) => view.set({ colour: value })),
    pick: menu("Click selects", [{ value: "word", label: "a word" }, { value: "sentence", label: "a sentence" }],
      settings.pick, set("pick")),
  };
  const opacity = slider("Opacity", { min: 0, max: 1, step: 0.05, value: settings.opacity,
    show: (value) => `${Math.round(100 * value)} %` }, set("opacity"));
  const truth = view.sides.some((side) => side.truth.length > 0);
  const setView = (name) => (value) => { view.view[name] = value; view.viewChanged(true); };
  const toggles = {
    overlay: toggle("Map", settings.overlay, set("overlay"), { title: "Map on or off (o)" }),
    smooth: toggle("Smooth", settings.smooth, set("smooth"), { title: "Smooth, or patches as they are (s)" }),
    truth: toggle("Truth", settings.truth, set("truth"), { title: "Outline what was drawn (t)", hidden: !truth }),
    lateral: toggle("Lateral", settings.lateral, (value) => view.showLateral(value), {
      title: "The same chest from the side, its truth linked", hidden: !view.lateral || (view.frozen && !view.lateral.lines) }),
    model: toggle("Model\u2019s view", view.view.model, setView("model"), { title: "What the model sees, or the whole image (v)" }),
    invert: toggle("Invert", view.view.invert, setView("invert"), { title: "Invert the image (i)" }),
    flip: toggle("Flip", view.view.flip, setView("flip"), { title: "Left for right (h)" }),
    hand: toggle("Pan", view.view.hand, setView("hand"), { title: "Drag moves the image" }),
  };
  return { menus, toggles, opacity };
}

// The name that follows, or with step -1 comes before; round the end.
export function nextOf(names, now, step) {
  const at = names.indexOf(now);
  return names[(at < 0 ? (step > 0 ? 0 : names.length - 1) : at + step + names.length) % names.length];
}
