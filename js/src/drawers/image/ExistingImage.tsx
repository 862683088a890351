// An image that exists: chosen here, dropped onto the stage or pasted, and traced at noise levels of the user's choice.

import { type Context, useMemo, useRef } from "../../app/coreExports";
import { ImageOf } from "../ImageOf";
import { Progress } from "../Progress";
import { existingOf, LEVELS } from "./existing";
import { imageIn } from "./imageFile";

export function ExistingImage({ context }: { readonly context: Context }) {
  const existing = useMemo(() => existingOf(context), [context]);
  const picker = useRef<HTMLInputElement>(null);
  const { session } = context;
  const taken = existing.taken.value;
  const traced = existing.traced.value;
  const isBusy = existing.job.isRunning || existing.isSending.value;
  const reason = existing.obstacle;
  const prompt = session.traits.prompt.value.trim();
  const isShown = traced !== null && session.store.shown.value?.info.run === traced.run;
  return (
    <section class="dv-image" aria-label="Image">
      <div class="dv-title">
        <h3>An image that exists</h3>
      </div>
      {reason ? (
        <p class="dv-foot">{reason}</p>
      ) : (
        <>
          <div class="dv-drop">
            {taken ? <ImageOf bytes={taken.preview} alt="The image as the model sees it" /> : null}
            <div>
              <p>
                {taken
                  ? `Cropped to ${taken.width} × ${taken.height} pixels, the size that the model makes.`
                  : "Drop an image onto the stage, paste one, or choose a file: where are the words of the prompt on it, and the concepts?"}
              </p>
              <input
                ref={picker}
                type="file"
                accept="image/png,image/jpeg,image/webp"
                class="dv-sr"
                tabIndex={-1}
                aria-label="Image file"
                onChange={(event) => {
                  const file = imageIn(event.currentTarget.files);
                  event.currentTarget.value = "";
                  void existing.open(file);
                }}
              />
              <button type="button" class="dv-do" data-testid="choose-image" onClick={() => picker.current?.click()}>
                {taken ? "Another file" : "Choose a file"}
              </button>
            </div>
          </div>
          {taken ? (
            <form
              onSubmit={(event) => {
                event.preventDefault();
                if (!isBusy) existing.trace();
              }}
            >
              <label
                title={`Timesteps that the image is noised to; the model is evaluated once at each. 0 is hardly any noise, 999 hardly any image. Such as ${LEVELS}`}
              >
                <span>noise levels</span>
                <input
                  type="text"
                  class="dv-levels"
                  inputMode="numeric"
                  autocomplete="off"
                  disabled={isBusy}
                  value={existing.levels.value}
                  onInput={(event) => {
                    existing.levels.value = event.currentTarget.value;
                    existing.problem.value = "";
                  }}
                />
              </label>
              <button type="submit" class="dv-do" data-testid="trace-image" disabled={isBusy}>
                Trace the image
              </button>
              <span class="dv-soft">{prompt ? `with the prompt “${prompt}”` : "without a prompt"}</span>
            </form>
          ) : null}
          {existing.problem.value ? (
            <p class="dv-problem" role="alert">
              {existing.problem.value}
            </p>
          ) : (
            <Progress job={existing.job} what="The trace of the image" />
          )}
          {isShown ? (
            <p class="dv-foot" role="status">
              {`The stage shows what the model takes the image for at ${
                traced.levels.length === 1 ? "one noise level" : `${traced.levels.length} noise levels, one a step`
              }: ${traced.levels.join(", ")}. Nothing was generated; the words' maps are maps on your image.`}
            </p>
          ) : null}
        </>
      )}
    </section>
  );
}
