// Marks under the filmstrip: where concepts emerge. A label that would overlap another is left out, its tick is not.

import { useComputed, useSignal } from "@preact/signals";
import { Fragment } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Context } from "../core/context";
import { stepNumber } from "../core/stepNumbers";
import type { Mark } from "../core/viewState";
import { Button } from "../ui/Button";

/** The marks of one step: they share a tick and a label. */
interface PlacedMark extends Mark {
  /** The position on the strip, 0..1. */
  readonly at: number;
  readonly lane: number;
}

const LANES = 2;
/** The width of a letter in pixels. */
const LETTER = 7.2;

function layOut(marks: readonly Mark[], length: number, width: number): PlacedMark[] {
  const ends = new Array<number>(LANES).fill(-1);
  const steps = [...new Set(marks.map(({ step }) => step))].sort((a, b) => a - b);
  return steps
    .map((step) => {
      const here = marks.filter((mark) => mark.step === step);
      return { step, name: here.map(({ name }) => name).join(", "), what: here.map(({ what }) => what).join(" and ") };
    })
    .map((mark) => {
      const { name, step } = mark;
      const at = (step + 0.5) / length;
      const half = Math.min(0.5, ((name.length + 2) * LETTER) / 2 / width);
      const from = Math.min(1 - 2 * half, Math.max(0, at - half));
      const lane = ends.findIndex((end) => end <= from);
      if (lane >= 0) ends[lane] = from + 2 * half;
      return { ...mark, at, lane };
    });
}

export function Marks({ context }: { readonly context: Context }) {
  const { session, player } = context;
  const strip = useRef<HTMLDivElement>(null);
  const width = useSignal(720);
  useLayoutEffect(() => {
    const element = strip.current;
    if (!element) return;
    const observer = new ResizeObserver(() => {
      if (element.clientWidth > 0) width.value = element.clientWidth;
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const marks = useComputed(() => {
    const run = session.store.shown.value;
    const scores = run?.scores.value;
    if (!run) return [];
    const emerging = (scores?.concepts ?? []).flatMap((name, i) => {
      const step = scores?.emergence[i];
      return typeof step === "number" ? [{ name, step, what: `${name} emerges` }] : [];
    });
    return layOut([...session.viewState.marks.value, ...emerging], run.length, width.value);
  });
  return (
    <div class="dv-marks" ref={strip}>
      {marks.value.map(({ name, what, step, at, lane }) => (
        <Fragment key={step}>
          <i style={{ left: `${at * 100}%` }} title={`${what} at step ${stepNumber(step)}`} />
          {lane >= 0 ? (
            <Button
              data-lane={lane}
              style={{ left: `${at * 100}%`, "--shift": at < 0.06 ? "-6px" : at > 0.94 ? "calc(6px - 100%)" : "-50%" }}
              title={`${what} at step ${stepNumber(step)}`}
              aria-label={`${what.startsWith(name) ? "" : `${name}: `}${what} at step ${stepNumber(step)}: go there`}
              onClick={() => {
                player.pause();
                session.goTo(step);
              }}
            >
              {name}
            </Button>
          ) : null}
        </Fragment>
      ))}
    </div>
  );
}
