// The page of /asyncapi in Chromium: node contracts_page.mjs PLAYWRIGHT CHROMIUM API STRANGER ADMIN
import assert from "node:assert/strict";
const [, , playwright, executablePath, api, stranger, admin] = process.argv;
const { chromium } = (await import(playwright)).default;
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
try {
  const tab = await browser.newPage({ viewport: { width: 390, height: 800 } });
  const wrong = [];
  tab.on("pageerror", (error) => wrong.push(String(error)));
  // A description may have code in it.
  await tab.route("**/asyncapi.json", async (route) => {
    const answer = await route.fetch();
    const body = await answer.json();
    const placed = body.components?.messages["sales.order.placed.v1"];
    if (placed) placed.summary = "What `items` say.";
    await route.fulfill({ response: answer, json: body });
  });
  await tab.goto(`${api}/asyncapi`);
  const as = async (token) => {
    await tab.getByLabel("Token").fill(token);
    await tab.getByRole("button", { name: "Use it" }).click();
  };
  await as(stranger);
  await tab.getByText("You may see no contracts").waitFor();
  assert.deepEqual(await tab.locator("#about code").allTextContents(), ["contracts", "publish:"]);

  await as(admin);
  await tab.locator("h2").first().waitFor();
  const topics = await tab.locator("h2").allTextContents();
  assert.equal(topics.at(-1), "mesh.events");
  assert.deepEqual(topics.slice(0, -1), topics.slice(0, -1).toSorted());

  const entry = tab.locator("details", { has: tab.locator("summary code", { hasText: /^sales\.order\.placed\.v1$/ }) });
  assert.equal(await entry.locator("summary span").textContent(), " What items say.");
  assert.deepEqual(await entry.locator("summary span code").allTextContents(), ["items"]);
  const example = JSON.parse(await entry.locator("pre").textContent());
  assert.equal(example.subject, String(example.data.order_id));

  // Where it is narrow the rows of the header do not touch.
  const [who, find] = await Promise.all(["#who", "#find"].map((each) => tab.locator(each).boundingBox()));
  assert.ok(find.y >= who.y + who.height + 4, `${who.y + who.height} ${find.y}`);
  assert.deepEqual(wrong, []);
} finally {
  await browser.close();
}
console.log("done");
