// The card of a tour or of a note: it points at its place and dims the rest of the widget.

import {
  Button,
  type Card,
  type Context,
  effect,
  fitImage,
  untracked,
  useLayoutEffect,
  usePlaced,
  useRef,
  useSignal,
} from "../app/coreExports";
import { startTour } from "./widgetTour";

/** Begins the tour that Python or a hint asks for. */
export function attachTour(context: Context, signal: AbortSignal): void {
  const { session } = context;
  const stop = effect(() => {
    const run = session.store.shown.value;
    const isReady = run !== null && run.latest.value >= 0;
    if (session.traits._tour.value === 0 || !isReady) return;
    untracked(() => {
      if (startTour(context)) session.set({ _tour: 0 });
    });
  });
  signal.addEventListener("abort", stop);
}

export function TourCards({ context }: { readonly context: Context }) {
  const { tour } = context.session.viewState;
  const shown = tour.value;
  const card = shown?.cards[shown.at];
  if (!shown || !card) return null;
  return <TourCard key={shown.at} context={context} card={card} at={shown.at} of={shown.cards.length} />;
}

interface Props {
  readonly context: Context;
  readonly card: Card;
  readonly at: number;
  readonly of: number;
}

function TourCard({ context, card, at, of }: Props) {
  const { session } = context;
  const { tour } = session.viewState;
  const spot = useRef<HTMLDivElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const target = useSignal<Element | null>(null);
  const move = (to: number) => {
    if (tour.value) tour.value = to < of ? { ...tour.value, at: Math.max(0, to) } : null;
  };
  const close = () => {
    tour.value = null;
  };
  useLayoutEffect(() => {
    card.show?.();
    const root = spot.current?.closest(".dv-body");
    const element = card.targets.map((selector) => root?.querySelector(selector)).find((match) => match != null);
    element?.scrollIntoView({ block: "nearest" });
    target.value = element ?? null;
    box.current?.querySelector<HTMLElement>("[data-next]")?.focus({ preventScroll: true });
  }, [card]);
  useSpot(spot, target.value, context, card);
  usePlaced(box, target.value ? spot.current : null);
  return (
    <div class="dv-tour">
      <div class="dv-dim">
        <div class="dv-spot" ref={spot} />
      </div>
      <div
        class="dv-popover"
        ref={box}
        role="dialog"
        aria-label={card.title}
        data-testid="tour-card"
        onKeyDown={(event) => {
          if (event.key === "Escape") close();
          else if (event.key === "ArrowRight") move(at + 1);
          else if (event.key === "ArrowLeft") move(at - 1);
          else return;
          event.preventDefault();
          event.stopPropagation();
        }}
      >
        <div class="dv-title">
          <h3>{card.title}</h3>
          <span class="dv-num">{of > 1 ? `${at + 1} of ${of}` : ""}</span>
        </div>
        <p>{card.text}</p>
        <div class="dv-popover-do">
          <Button class="dv-quiet" disabled={at === 0} hidden={of === 1} onClick={() => move(at - 1)}>
            Back
          </Button>
          {at + 1 < of ? (
            <Button class="dv-quiet" data-next onClick={() => move(at + 1)}>
              Next
            </Button>
          ) : null}
          <Button class="dv-quiet" data-next={at + 1 === of || undefined} onClick={close}>
            {at + 1 === of ? "Done" : "Close"}
          </Button>
        </div>
      </div>
    </div>
  );
}

/** Lays the spot over the target, or over a region of the image inside it. */
function useSpot(
  spot: { readonly current: HTMLElement | null },
  target: Element | null,
  { session }: Context,
  { region }: Card,
): void {
  useLayoutEffect(() => {
    const element = spot.current;
    const frame = element?.offsetParent;
    if (!element || !frame || !target) return;
    const lay = () => {
      const origin = frame.getBoundingClientRect();
      const bounds = target.getBoundingClientRect();
      let { left, top, width, height } = bounds;
      const run = session.store.shown.peek();
      if (region && run) {
        const image = fitImage(run.info.image, { width, height, ratio: 1 });
        left += image.x + region.u0 * image.width;
        top += image.y + region.v0 * image.height;
        width = (region.u1 - region.u0) * image.width;
        height = (region.v1 - region.v0) * image.height;
      }
      Object.assign(element.style, {
        left: `${left - origin.left - 4}px`,
        top: `${top - origin.top - 4}px`,
        width: `${width + 8}px`,
        height: `${height + 8}px`,
      });
    };
    lay();
    const observer = new ResizeObserver(lay);
    for (const observed of [frame, target]) observer.observe(observed);
    return () => observer.disconnect();
  }, [target, region]);
}
