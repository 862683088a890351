// What is under the pointer, said in the line under the prompt: a step of the film, a concept's score on its curve.

import { type Context, plain, score, value } from "../app/coreExports";

export function readOut(context: Context, root: HTMLElement, signal: AbortSignal): void {
  const { session, player, hint } = context;
  const { store, look } = session;
  let told = false;

  /** The step that lies under the pointer in an element that is as wide as the run. */
  const stepIn = (element: Element, event: MouseEvent): number => {
    const { left, width } = element.getBoundingClientRect();
    const length = store.shown.value?.length ?? 1;
    return Math.min(length - 1, Math.max(0, Math.floor(((event.clientX - left) / width) * length)));
  };
  const under = (event: Event, selector: string): HTMLElement | null =>
    event.target instanceof Element ? event.target.closest<HTMLElement>(selector) : null;

  const ofCurve = (event: PointerEvent): string | null => {
    const curve = under(event, ".dv-meters .dv-spark");
    const scores = store.shown.value?.scores.value;
    const concept = curve?.closest<HTMLElement>(".dv-meter")?.dataset.testid?.slice("meter-".length);
    if (!curve || !scores || concept === undefined) return null;
    const at = stepIn(curve, event);
    const place = scores.concepts.indexOf(concept);
    const share = look.meterScale.value === "share" && scores.share;
    const found = (share || scores.cosine)[at]?.[place];
    return `${concept} at step ${at + 1}: ${score(found)}${share ? " of all" : ""}`;
  };
  const ofFilm = (event: PointerEvent): string | null => {
    const film = under(event, ".dv-slider");
    const run = store.shown.value;
    if (!film || !run) return null;
    const at = stepIn(film, event);
    const step = run.steps[at];
    if (!step) return `step ${at + 1} has not come yet`;
    const parts = [`step ${at + 1}`];
    if (step.timestep !== null) parts.push(`t = ${plain(step.timestep)}`);
    if (step.sigma !== null) parts.push(`σ = ${value(step.sigma)}`);
    return parts.join(" · ");
  };

  root.addEventListener(
    "pointermove",
    (event) => {
      const text = ofCurve(event) ?? ofFilm(event);
      if (text !== null || told) hint.value = text ?? "";
      told = text !== null;
    },
    { signal },
  );
  root.addEventListener(
    "pointerleave",
    () => {
      if (told) hint.value = "";
      told = false;
    },
    { signal },
  );
  // A click on a curve goes to that step.
  root.addEventListener(
    "click",
    (event) => {
      const curve = under(event, ".dv-meters .dv-spark");
      if (!curve) return;
      player.pause();
      session.goTo(stepIn(curve, event));
    },
    { signal },
  );
}
