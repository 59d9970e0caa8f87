// The example page in Chromium: node page.mjs PLAYWRIGHT CHROMIUM PAGE API SCREENSHOT
import assert from "node:assert/strict";
const [, , playwright, executablePath, page, api, screenshot] = process.argv;
const { chromium } = (await import(playwright)).default;
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
try {
  const tab = await browser.newPage({ viewport: { width: 1100, height: 900 } });
  const wrong = [];
  tab.on("pageerror", (error) => wrong.push(String(error)));
  await tab.goto(`${page}?api=${encodeURIComponent(api)}`);
  const caption = tab.locator("caption");
  const rows = tab.locator("#rows tr");
  const counted = async (text) => tab.waitForFunction((wanted) => document.querySelector("caption").textContent === wanted, text);
  await counted("830 orders");
  assert.equal(await rows.count(), 10);
  assert.ok(await tab.locator("#prev").isDisabled());

  // Pages, forth and back.
  const first = await rows.first().textContent();
  await tab.locator("#next").click();
  await tab.waitForFunction((text) => document.querySelector("#rows tr").textContent !== text, first);
  await tab.locator("#prev").click();
  await tab.waitForFunction((text) => document.querySelector("#rows tr").textContent === text, first);

  // Filtered and ordered.
  await tab.getByLabel("Customer", { exact: true }).fill("alcools");
  await tab.getByLabel("Order by").selectOption("total.desc");
  await counted("5 orders");
  await tab.waitForFunction(() => {
    const totals = [...document.querySelectorAll("#rows td.number")].map((cell) => Number(cell.textContent.replace(/[$,]/g, "")));
    return totals.length === 5 && totals.every((total, n) => n === 0 || totals[n - 1] >= total);
  });
  await tab.getByLabel("not shipped yet").check();
  await counted("0 orders");
  await tab.getByLabel("not shipped yet").uncheck();
  await counted("5 orders");

  // A write, and the row that it makes, at its position.
  await tab.getByRole("button", { name: "Start a workflow with order 10248" }).click();
  await tab.getByLabel("Name").fill("Broken bottle");
  await tab.getByRole("button", { name: "Publish" }).click();
  await tab.getByText("This is its row, joined:").waitFor();
  const shown = Object.fromEntries(
    await tab.locator("#row").evaluate((list) => {
      const texts = [...list.children].map((each) => each.textContent);
      return texts.flatMap((text, n) => (n % 2 ? [] : [[text, texts[n + 1]]]));
    }),
  );
  assert.equal(shown.name, "Broken bottle");
  assert.equal(shown.order_id, "10248");
  assert.equal(shown.customer_name, "Vins et alcools Chevalier");
  assert.equal(shown.total, "440");
  assert.match(shown.position, /^\{"0":\d+\}$/);
  assert.ok(await tab.locator("#problem").isHidden());
  await tab.screenshot({ path: screenshot, fullPage: true });
  assert.deepEqual(wrong, []);
  assert.equal(await caption.textContent(), "5 orders");
} finally {
  await browser.close();
}
console.log("done");
