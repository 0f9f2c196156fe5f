// Reads what the page says to paste into a receiver, and has the test run it.

import { enter, request, story } from "./browser.mjs";

await story(async (newPage) => {
  const page = await newPage();
  await enter(page, "#/verify");
  for (const language of ["JavaScript", "Python"]) {
    await page.getByLabel(language, { exact: true }).check();
    const code = await page.getByRole("group", { name: `${language} receiver` }).textContent();
    await request({ do: "paste", language, code });
  }
});
