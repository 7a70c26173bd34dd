// Wheel, trackpad and right button over a radiograph. Does not know radiographs.
import { clamp } from "./common.js";

const NOTCH = Math.log(1.1) / 110; // of a wheel: about 110 pixels, a tenth larger or smaller
const LINE_HEIGHT = 37; // three lines are a notch

// How much one event of a wheel or trackpad zooms: in proportion to its way. Pinching comes as small
// steps with Ctrl.
export function wheelFactor({ deltaY, deltaMode, ctrlKey }) {
  const way = deltaY * (deltaMode === 0 ? 1 : deltaMode === 1 ? LINE_HEIGHT : 10 * LINE_HEIGHT);
  const pinch = ctrlKey && Math.abs(way) < 40;
  return Math.exp(-clamp(way, -240, 240) * NOTCH * (pinch ? 10 : 1));
}

export function swallow(event) { event.preventDefault(); event.stopPropagation(); }

// A drag with the right button may end beside the radiograph; no menu opens there either.
export function withoutMenu() {
  const act = (event) => swallow(event);
  const over = () => setTimeout(() => window.removeEventListener("contextmenu", act, true), 50);
  window.addEventListener("contextmenu", act, true);
  for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, over, { once: true, capture: true });
}
