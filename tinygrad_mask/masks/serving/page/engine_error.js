/** Why an engine has no answer: `words` is the key of the text, `detail` what is put into it. */
export class EngineError extends Error {
  constructor(words, detail = "") {
    super(`${words} ${detail}`);
    this.words = words;
    this.detail = detail;
  }
}
