// The page's texts, in the language that the browser asks for.

const LANGUAGES = ["en", "de"];

/** The first of the browser's languages that there is, English if there is none. */
export function preferred(languages) {
  const short = languages.map((language) => language.toLowerCase().split("-")[0]);
  return short.find((language) => LANGUAGES.includes(language)) ?? "en";
}

/** Load a language's texts and put them into the elements that name one with `data-words`. */
export async function speak(language) {
  const answer = await fetch(`words.${language}.json`);
  const words = await answer.json();
  document.documentElement.lang = language;
  document.title = words.title;
  for (const element of document.querySelectorAll("[data-words]")) {
    element.textContent = words[element.dataset.words];
  }
  return words;
}

/** Put values into a text: fill("{n} faces", {n: 3}). */
export function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}
