// Which places of the image, and of its reference images, the selected place attends to.

import {
  type Context,
  fitImage,
  Overlay,
  type ReadonlySignal,
  type Run,
  StageImage,
  type StepMessage,
  stepNumber,
  useCanvas,
  useMemo,
  useReaction,
} from "../../app/coreExports";
import type { Attention } from "./attention";
import { PlaceAttention } from "./placeAttention";

export function Places({ context }: { readonly context: Context }) {
  const { session } = context;
  const attention = useMemo(() => new PlaceAttention(session), [session]);
  useReaction(() => attention.request(), [attention]);
  const run = session.store.shown.value;
  const region = session.viewState.region.value;
  const received = attention.received.value;
  const shown = run && region && received?.run === run.info.run ? received : null;
  const hint = !region
    ? "Click a place of the image."
    : attention.problem ||
      (shown ? "" : attention.job.status.value?.state === "waiting" ? "Waiting for the model" : "Computing");
  return (
    <section class="dv-places" aria-label="Places" data-testid="places-view">
      <div class="dv-title">
        <h3>{shown ? `What the place attends to at step ${stepNumber(shown.step)}` : "What a place attends to"}</h3>
      </div>
      {hint ? <p class="dv-foot">{hint}</p> : null}
      {shown && run && !attention.problem ? (
        <div class="dv-place-images">
          {shown.images.map((_, index) => (
            <AttendedImage
              key={`${shown.run} ${index} ${shown.images.length}`}
              context={context}
              run={run}
              attention={shown}
              received={attention.received}
              index={index}
            />
          ))}
        </div>
      ) : null}
      {shown && !attention.problem ? <p class="dv-foot">{summary(shown)}</p> : null}
    </section>
  );
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
}

function nameOf(index: number, count: number): string {
  if (index === 0) return "the image";
  return count > 2 ? `reference ${index}` : "the reference";
}

function summary({ words, images, isOneLayer }: Attention): string {
  const which = isOneLayer
    ? "in its last layer on the finest grid, mean over heads"
    : "mean over the default layers and their heads";
  if (words === null) return `Self-attention of the image, ${which}; it sums to 1.`;
  const parts = [`the text ${percent(words)}`];
  images.forEach(({ share }, index) => {
    if (share !== null) parts.push(`${nameOf(index, images.length)} ${percent(share)}`);
  });
  return `Of the attention of this place: ${parts.join(", ")}. Mean over the default layers and their heads.`;
}

interface Props {
  readonly context: Context;
  readonly run: Run;
  readonly attention: Attention;
  /** Where the next one arrives: the canvas is drawn again when it does. */
  readonly received: ReadonlySignal<Attention | null>;
  readonly index: number;
}

function AttendedImage({ context, run, attention, received, index }: Props) {
  const { viewState } = context.session;
  const overlay = useMemo(() => new Overlay(), []);
  const image = useMemo(() => new StageImage(context.images), [context]);
  const attended = attention.images[index];
  const bytes = attended?.image;
  const { height, width } = attended?.maps ?? { height: 1, width: 1 };
  const size: readonly [number, number] = index === 0 ? run.info.image : [height, width];
  const canvas = useCanvas((_, c, frame) => {
    const now = received.value;
    const step = now?.run === run.info.run ? run.nearest(now.step) : undefined;
    c.clearRect(0, 0, frame.width * frame.ratio, frame.height * frame.ratio);
    if (!now || !step || !now.images[index]) return;
    const box = fitImage(size, frame);
    if (index === 0) image.draw(c, step, "prediction", box, true);
    else if (bytes) image.draw(c, { ...step, images: { prediction: bytes } }, "prediction", box, true);
    overlay.draw(c, run, withMap(step, run, now, index), [run.info.words.length], viewState, box);
    if (index > 0) return;
    const [top, left, bottom, right] = now.place;
    for (const [line, colour] of [
      [4, "#000a"],
      [2, "#fff"],
    ] as const) {
      c.lineWidth = line * frame.ratio;
      c.strokeStyle = colour;
      c.strokeRect(
        box.x + left * box.width,
        box.y + top * box.height,
        (right - left) * box.width,
        (bottom - top) * box.height,
      );
    }
  });
  const name = nameOf(index, attention.images.length);
  const caption = name.charAt(0).toUpperCase() + name.slice(1);
  return (
    <figure style={{ "--ratio": String(size[1] / size[0]) }}>
      <span class="dv-place-image">
        <canvas ref={canvas} role="img" aria-label={`${caption}, covered by what the place attends to`} />
      </span>
      <figcaption>
        {caption}
        {attended?.share == null ? null : <span class="dv-num"> {percent(attended.share)}</span>}
      </figcaption>
    </figure>
  );
}

/** The step with the map of an image in place of those of the words: the one behind the last word's. */
function withMap(step: StepMessage, run: Run, attention: Attention, index: number): StepMessage {
  const maps = attention.images[index]?.maps;
  if (!maps) return step;
  const word = run.info.words.length;
  const data = new Uint8Array((word + 1) * maps.data.length);
  data.set(maps.data, word * maps.data.length);
  return {
    ...step,
    maps: { ...maps, data, scales: [...Array.from({ length: word }, () => null), maps.scales[0] ?? null] },
  };
}
