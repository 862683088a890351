// Under the prompt while it is edited: words that the model knows, by group, as completions of the word being typed.

import { Button, type SuggestionsProps, unknownText, useLayoutEffect } from "../app/coreExports";
import { suggestionsAt, unknownWords, withSuggestion } from "./completions";

export function Suggestions({ field, text, caret, vocabulary, change }: SuggestionsProps) {
  const { partial, groups } = suggestionsAt(text, caret, vocabulary);
  const choose = (phrase: string) => {
    const next = withSuggestion(text, caret, partial, phrase);
    change(next.text, next.caret);
  };
  useLayoutEffect(() => {
    const completion = partial && groups[0]?.[1][0];
    const complete = (event: KeyboardEvent) => {
      if (!completion || event.key !== "Tab" || event.shiftKey || event.isComposing) return;
      choose(completion);
      event.preventDefault();
    };
    field?.addEventListener("keydown", complete);
    return () => field?.removeEventListener("keydown", complete);
  });
  const typed = /\p{L}*$/u.exec(text.slice(0, caret))?.[0].toLowerCase();
  const unknown = unknownWords(text, vocabulary).filter((word) => word !== typed);
  return (
    <div class="dv-suggestions" role="group" aria-label="Words that the model knows">
      {unknown.length > 0 ? <p data-tone="bad">{unknownText(unknown, vocabulary)}</p> : null}
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
