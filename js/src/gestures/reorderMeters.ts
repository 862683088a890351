// Changing the order of the meters by hand: drag a name up or down, or press Alt and an arrow key inside a meter.

import { useRef } from "preact/hooks";
import type { Context } from "../core/context";

/**
 * Event handlers for the list of meters, for the name of a meter and for its row. `listRef` must be on the list, whose
 * children are the rows in the order of the concepts.
 */
export function useMeterOrder({ session, player }: Context) {
  const listRef = useRef<HTMLUListElement>(null);
  const dragged = useRef<string | null>(null);

  const move = (concept: string, to: number): boolean => {
    const concepts = session.traits.concepts.value;
    const others = concepts.filter((other) => other !== concept);
    if (to < 0 || to > others.length || concepts.indexOf(concept) === to) return false;
    player.pause();
    session.set({ concepts: others.toSpliced(to, 0, concept) });
    return true;
  };
  const release = () => {
    dragged.current = null;
  };

  return {
    listRef,
    listEvents: {
      onPointerMove: (event: PointerEvent) => {
        if (dragged.current === null) return;
        const rows = [...(listRef.current?.children ?? [])];
        const row = rows.findIndex((element) => event.clientY < element.getBoundingClientRect().bottom);
        move(dragged.current, row < 0 ? rows.length - 1 : row);
      },
      onPointerUp: release,
      onPointerCancel: release,
    },
    nameEvents: (concept: string) => ({
      onPointerDown: (event: PointerEvent) => {
        if (event.button !== 0 || !session.connected.value) return;
        // The list holds the pointer: a row that changes its place would lose it.
        listRef.current?.setPointerCapture(event.pointerId);
        dragged.current = concept;
      },
    }),
    rowEvents: (concept: string) => ({
      onKeyDown: (event: KeyboardEvent) => {
        const by = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
        if (!event.altKey || by === 0 || !session.connected.value) return;
        event.preventDefault();
        const button = event.target as HTMLElement;
        // Moving the row's element takes the focus away from the button inside it.
        if (move(concept, session.traits.concepts.value.indexOf(concept) + by))
          requestAnimationFrame(() => button.focus());
      },
    }),
  };
}
