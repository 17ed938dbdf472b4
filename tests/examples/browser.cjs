// node browser.cjs PLAYWRIGHT SITE TEXTS [SCREENSHOT]: type texts into the demo, print what it says.

const [playwright, site, texts, screenshot] = process.argv.slice(2);
const { chromium } = require(playwright);

async function main() {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  const report = { answers: [], foreign: [], messages: [] };
  try {
    const page = await browser.newPage({ viewport: { width: 390, height: 800 } });
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(site) && !/^(data|blob):/.test(url)) report.foreign.push(url);
    });
    page.on("requestfailed", (request) => {
      // What the page's policy blocked never left the browser.
      const index = report.foreign.indexOf(request.url());
      if (index >= 0 && request.failure().errorText === "csp") report.foreign.splice(index, 1);
    });
    page.on("console", (message) => report.messages.push(message.text()));
    await page.goto(site);
    await page.waitForSelector("#demo:not([hidden]), #error:not([hidden])", { timeout: 120000 });
    report.error = await page.textContent("#error");
    if (!report.error) {
      for (const text of JSON.parse(texts)) {
        await page.fill("#text", "");
        await page.type("#text", text);
        await page.waitForFunction(
          (typed) => document.getElementById("demo").dataset.text === typed,
          text,
        );
        report.answers.push(
          await page.evaluate(() => ({
            label: document.getElementById("label").textContent,
            scores: Object.fromEntries(
              [...document.querySelectorAll("#bars li")].map((item) => [
                item.dataset.label,
                Number(item.dataset.score),
              ]),
            ),
            latency: document.getElementById("latency").textContent,
            size: document.getElementById("size").textContent,
          })),
        );
      }
    }
    report.isTooWide = await page.evaluate(
      () => document.documentElement.scrollWidth > window.innerWidth,
    );
    if (screenshot) {
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        await page.screenshot({ path: `${screenshot}-${colorScheme}.png`, fullPage: true });
      }
    }
  } finally {
    await browser.close();
  }
  console.log(JSON.stringify(report));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
