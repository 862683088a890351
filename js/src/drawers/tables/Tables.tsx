// The meters and the heat maps as tables: for screen readers, and for copying.

import {
  type Context,
  distinctName,
  NOT_RECORDED,
  type Run,
  score,
  stepNumber,
  useLayoutEffect,
  useRef,
  value,
} from "../../app/coreExports";

/** Of more rows than this only every nth is shown. */
const MAX_ROWS = 120;

export function Tables({ context }: { readonly context: Context }) {
  const { viewState, store } = context.session;
  const run = store.shown.value;
  const step = run?.nearest(viewState.step.value);
  if (!run || !step) return null;
  return (
    <section class="dv-tables" aria-label="Tables">
      {run.scores.value ? <Scores run={run} at={viewState.step.value} /> : null}
      {run.hasMaps ? (
        <>
          <h3>Attention of each word at step {stepNumber(step.index)}, 0 to 1</h3>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keys */}
          <div tabIndex={0} role="region" aria-label="Table of the words">
            <table aria-label={`Attention of each word at step ${stepNumber(step.index)}`}>
              <thead>
                <tr>
                  {["Word", "Mean", "Peak", "Peak at x, y"].map((name) => (
                    <th scope="col" key={name}>
                      {name}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {run.info.words.map((word, index) =>
                  word.kind === "word" ? (
                    <tr key={index}>
                      <th scope="row">{distinctName(run.info.words, index)}</th>
                      {readMap(run, index, step.maps).map((cell, i) => (
                        <td key={i}>{cell}</td>
                      ))}
                    </tr>
                  ) : null,
                )}
              </tbody>
            </table>
          </div>
        </>
      ) : null}
    </section>
  );
}

function readMap(run: Run, word: number, maps: NonNullable<ReturnType<Run["nearest"]>>["maps"]): readonly string[] {
  const scale = maps.scales[word];
  if (!scale) return [NOT_RECORDED, NOT_RECORDED, ""];
  const { height, width, data } = maps;
  const cells = data.subarray(word * height * width, (word + 1) * height * width);
  const sum = cells.reduce((a, b) => a + b, 0);
  const at = cells.indexOf(cells.reduce((a, b) => Math.max(a, b), 0));
  const [h, w] = run.info.image;
  const x = Math.floor((((at % width) + 0.5) / width) * w);
  const y = Math.floor(((Math.floor(at / width) + 0.5) / height) * h);
  return [value(scale[0] + (sum / cells.length / 255) * (scale[1] - scale[0])), value(scale[1]), `${x}, ${y}`];
}

function Scores({ run, at }: { readonly run: Run; readonly at: number }) {
  const scores = run.scores.value;
  const box = useRef<HTMLDivElement>(null);
  // The row of this step stands in the middle of the table.
  useLayoutEffect(() => {
    const row = box.current?.querySelector<HTMLElement>("[aria-current]");
    if (box.current && row) box.current.scrollTop = row.offsetTop - (box.current.clientHeight - row.clientHeight) / 2;
  }, [at]);
  if (!scores) return null;
  const every = Math.ceil(scores.cosine.length / MAX_ROWS);
  return (
    <>
      <h3>
        Cosine of each concept{scores.share ? ", and in grey its share" : ""}
        {every > 1 ? `, every ${every}th step` : ""}
      </h3>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keys */}
      <div tabIndex={0} role="region" aria-label="Table of the concepts" ref={box}>
        <table aria-label="Cosine of each concept">
          <thead>
            <tr>
              <th scope="col">Step</th>
              {scores.concepts.map((concept, i) => (
                <th scope="col" key={concept}>
                  {concept}
                  <span>
                    {scores.emergence[i] == null
                      ? "does not emerge"
                      : `emerges at step ${stepNumber(scores.emergence[i])}`}
                  </span>
                </th>
              ))}
              <th scope="col">Unrelated words</th>
            </tr>
          </thead>
          <tbody>
            {scores.cosine.map((row, step) => {
              const band = scores.null_band[step];
              return row && (step % every === 0 || step === at) ? (
                <tr key={step} aria-current={step === at || undefined}>
                  <th scope="row">{stepNumber(step)}</th>
                  {row.map((cosine, i) => (
                    <td key={i}>
                      {score(cosine)}
                      {scores.share ? <span>{score(scores.share[step]?.[i])}</span> : null}
                    </td>
                  ))}
                  <td>{band ? `${score(band[0])} to ${score(band[1])}` : "–"}</td>
                </tr>
              ) : null;
            })}
          </tbody>
        </table>
      </div>
    </>
  );
}
