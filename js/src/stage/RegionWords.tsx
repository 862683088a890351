// The words that a chosen part of the picture reads, ranked: now as a bar, over the steps as a line.

import { useMemo } from "preact/hooks";
import type { Context } from "../core/context";
import { value } from "../core/format";
import { meanIn, type Region } from "../core/mapSampling";
import type { Run } from "../core/store";
import { colourOf, fullNameOf } from "../core/wordLabels";
import { wordEvents } from "../gestures/chooseWord";
import { Button } from "../ui/Button";
import { linePath, SPARK } from "../ui/spark";

const MOST = 8;

interface Props {
  readonly context: Context;
  readonly run: Run;
  readonly region: Region;
}

export function Place({ context, run, region }: Props) {
  const { look } = context.session;
  const at = look.step.value;
  const step = run.nearest(at);
  const revision = run.revision.value;
  /** The course over the steps of the words that have been in the list. */
  const courses = useMemo(() => new Map<number, (number | null)[]>(), [run, region, revision]);
  const ranked = run.info.words
    .flatMap((word, index) => {
      const now = step && word.kind === "word" ? meanIn(step.maps, index, region) : null;
      return now === null ? [] : [{ word, index, now }];
    })
    .sort((a, b) => b.now - a.now)
    .slice(0, MOST)
    .map((entry) => {
      const { index } = entry;
      const course =
        courses.get(index) ?? Array.from(run.steps, (one) => (one ? meanIn(one.maps, index, region) : null));
      courses.set(index, course);
      return { ...entry, course };
    });
  const most = Math.max(1e-9, ...ranked.flatMap(({ course }) => course.map((one) => one ?? 0)));
  const place = (one: number) => one / most;
  return (
    <ul>
      {ranked.map(({ word, index, now, course }) => {
        const colour = colourOf(look.pinned.value, index);
        return (
          <li
            class="dv-meter"
            key={index}
            style={look.pinned.value.length > 1 && colour ? { "--data": colour } : undefined}
          >
            <Button
              class="dv-meter-name"
              data-testid={`place-${index}`}
              aria-pressed={colour !== undefined}
              title={fullNameOf(word)}
              {...wordEvents(look, index)}
            >
              {fullNameOf(word)}
            </Button>
            <span class="dv-track" aria-hidden="true">
              <i class="dv-fill" style={{ transform: `scaleX(${place(now)})` }} />
            </span>
            <span class="dv-num dv-score">{value(now)}</span>
            <span class="dv-spark">
              <svg viewBox={`0 0 ${SPARK.width} ${SPARK.height}`} preserveAspectRatio="none" aria-hidden="true">
                <path d={linePath(course, run.length, { range: [0, most], place })} />
              </svg>
              <i
                style={{
                  transform: `translate(${((at + 0.5) / run.length) * 100}%,${(SPARK.y(place(now)) / SPARK.height) * 100}%)`,
                }}
              >
                <b class="dv-dot" />
              </i>
            </span>
          </li>
        );
      })}
    </ul>
  );
}
