// The order of the meters, by hand: drag a name up or down, or Alt and the arrows while a meter has the focus.

import type { Context } from "../app/coreExports";

export function orderMeters({ session, player }: Context, root: HTMLElement, signal: AbortSignal): void {
  let held: string | null = null;
  let pointer = 0;

  const rows = () => [...root.querySelectorAll<HTMLElement>(".dv-meters .dv-meter")];
  const conceptAt = ({ target }: Event): string | null => {
    const row = target instanceof Element ? target.closest<HTMLElement>(".dv-meters .dv-meter") : null;
    return row?.dataset.testid?.slice("meter-".length) ?? null;
  };
  /** Moves a concept to a place in the list. */
  const move = (concept: string, to: number): boolean => {
    const concepts = session.traits.concepts.value;
    const others = concepts.filter((other) => other !== concept);
    if (to < 0 || to > others.length || concepts.indexOf(concept) === to) return false;
    player.pause();
    session.set({ concepts: others.toSpliced(to, 0, concept) });
    return true;
  };
  const on = <E extends Event>(name: string, call: (event: E) => void) =>
    root.addEventListener(name, call as (event: Event) => void, { signal });

  on<PointerEvent>("pointerdown", (event) => {
    const isName = event.target instanceof Element && event.target.closest(".dv-meter-name");
    if (event.button !== 0 || !isName || !session.connected.value) return;
    held = conceptAt(event);
    pointer = event.pointerId;
  });
  on<PointerEvent>("pointermove", (event) => {
    if (held === null || event.pointerId !== pointer) return;
    const to = rows().findIndex((row) => event.clientY < row.getBoundingClientRect().bottom);
    move(held, to < 0 ? rows().length - 1 : to);
  });
  on("selectstart", (event) => {
    if (held !== null) event.preventDefault();
  });
  for (const name of ["pointerup", "pointercancel", "pointerleave"])
    on(name, () => {
      held = null;
    });
  on<KeyboardEvent>("keydown", (event) => {
    const by = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
    const concept = event.altKey && by !== 0 && session.connected.value ? conceptAt(event) : null;
    if (concept === null) return;
    event.preventDefault();
    const button = event.target as HTMLElement;
    // The row is the same element in another place, which takes the focus from it.
    if (move(concept, session.traits.concepts.value.indexOf(concept) + by)) requestAnimationFrame(() => button.focus());
  });
}
