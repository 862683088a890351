// Under the prompt while it is edited: words that the model knows, by group, as completions of the word being typed.

import type { Suggestions as Words } from "../core/vocabulary";
import { Button } from "../ui/Button";

interface Props {
  readonly words: Words;
  /** What is wrong with the prompt so far. */
  readonly warning: string;
  readonly choose: (phrase: string) => void;
}

export function Suggestions({ words: { partial, groups }, warning, choose }: Props) {
  return (
    <div class="dv-suggestions" role="group" aria-label="Words that the model knows">
      {warning ? <p data-tone="bad">{warning}</p> : null}
      <dl>
        {groups.map(([name, phrases]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>
              {phrases.map((phrase) => (
                <Button
                  key={phrase}
                  tabIndex={-1}
                  // The field keeps the focus.
                  onPointerDown={(event) => event.preventDefault()}
                  onClick={() => choose(phrase)}
                >
                  {phrase}
                </Button>
              ))}
            </dd>
          </div>
        ))}
      </dl>
      <p class="dv-foot">
        {partial ? "Tab completes the word · " : ""}
        Enter to run · Esc to leave
      </p>
    </div>
  );
}
