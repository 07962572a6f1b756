"""Open the built pages in Chromium without a screen, and say what is wrong with them.

    python docs/check_site.py docs/_build/html

Checked are the front page, a page of the guide, an example, the API and the search, at the width
of a desk and of a phone: no error of a script, no request to another host, nothing wider than the
screen, every link among the pages to a page and a place that exist, every page in ``llms.txt``, and
a search for "epsilon" that finds the classifier. CHROMIUM names the browser, if it is not called
chromium; without one only links and ``llms.txt`` are checked, and that is said. External links are
listed with ``--external``.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from html import unescape
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag

CLASSIFIER = "generated/names/sk_advbp.AdvBPClassifier.html"
PAGES = (
    "index.html",
    "guide/algorithm.html",
    "guide/from_mlp.html",
    "auto_examples/index.html",
    "auto_examples/plot_first_fit.html",
    "generated/api.html",
    CLASSIFIER,
    "results.html",
    "contributing.html",
    "search.html?q=epsilon",
)
WIDTHS = {"desk": 1280, "phone": 390}
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--window-size=1400,1000 --virtual-time-budget=60000 --dump-dom"
).split()

# Loads each page in a frame of each width, and writes down what it finds as JSON.
PROBE = """<!DOCTYPE html><title>probe</title><pre id="found">unfinished</pre><script>
const jobs = JOBS, found = [];
const pause = ms => new Promise(done => setTimeout(done, ms));
async function look({page, width}) {
  const frame = document.createElement("iframe");
  frame.style = `width:${width}px;height:800px;border:0`;
  document.body.append(frame);
  const loaded = new Promise(done => frame.onload = done);
  frame.src = page;
  await loaded;
  const inside = frame.contentWindow, root = inside.document.documentElement;
  for (let i = 0; page.startsWith("search") && i < 50; i++) {
    if (inside.document.querySelector("#search-results li")) break;
    await pause(100);
  }
  await pause(300);
  const hosts = inside.performance.getEntriesByType("resource").map(e => e.name)
    .filter(name => !name.startsWith(location.origin) && !name.startsWith("data:"));
  const results = [...inside.document.querySelectorAll("#search-results li a")];
  found.push({page, width, errors: inside.reported, hosts,
              wide: root.scrollWidth - root.clientWidth,
              text: inside.document.body.innerText.length,
              results: results.map(r => r.href)});
  frame.remove();
}
(async () => {
  for (const job of jobs) {
    try { await look(job); } catch (e) { found.push({...job, failed: String(e)}); }
  }
  document.getElementById("found").textContent = JSON.stringify(found);
})();
</script>"""


# Stands first in each page that is served: keeps what goes to the console as an error.
EAR = b"""<script>window.reported = [];
addEventListener("error", e => reported.push(e.message || "cannot load " +
  (e.target.src || e.target.href)), true);
addEventListener("unhandledrejection", e => reported.push(String(e.reason)));
console.error = (...words) => reported.push(words.join(" "));</script>"""


class Page(HTMLParser):
    """The links and places of one page, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.places = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        """Note what the tag links to, loads and names."""
        of = dict(attributes)
        self.places |= {of[key] for key in ("id", "name") if of.get(key)}
        if tag == "a" and of.get("href"):
            self.links.append(of["href"])
        elif tag == "link" and of.get("href") and of.get("rel") not in ("canonical", "author"):
            self.loads.append(of["href"])
        elif tag in ("script", "img", "iframe", "source") and of.get("src"):
            self.loads.append(of["src"])


def is_external(link):
    """Return whether the link leaves the site."""
    return re.match(r"[a-z][a-z+.-]*:|//", link) is not None


def broken_links(site, pages):
    """Return what is wrong with the links among the pages, one line each."""
    wrong = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            if is_external(link):
                if link in page.loads and not link.startswith("data:"):
                    wrong.append(f"{path.relative_to(site)}: loads {link}")
                continue
            place, fragment = urldefrag(link)
            place = place.partition("?")[0]
            fragment = fragment.partition(":~:")[0]  # what follows is text to show, not a place
            target = (path.parent / unquote(place)).resolve() if place else path
            if not target.is_file():
                wrong.append(f"{path.relative_to(site)}: no {link}")
            elif fragment and target in pages and unquote(fragment) not in pages[target].places:
                wrong.append(f"{path.relative_to(site)}: no place {link}")
    return wrong


def wrong_in_llms(site, pages):
    """Return what is wrong with the list of pages for assistants, one line each."""
    text = (site / "llms.txt").read_text("utf-8")
    listed = re.findall(r"^- \[.+\]\((\S+)\): \S.*$", text, re.M)
    folders = ("guide", "auto_examples", "generated/names")
    own = {str(path.relative_to(site)) for path in pages}
    wanted = {page for page in own if page.rpartition("/")[0] in folders}
    wanted -= {f"{folder}/index.html" for folder in folders}
    wrong = [f"llms.txt: no {page}" for page in listed if page not in own]
    wrong += [f"llms.txt lacks {page}" for page in sorted(wanted - {*listed})]
    if text.count("\n- ") != len(listed):
        wrong.append("llms.txt: a line that is no link with a sentence")
    return wrong


class Handler(SimpleHTTPRequestHandler):
    """The built pages, and the probe."""

    probe = b""

    def do_GET(self):
        """Answer with the probe, a page that tells of its errors, or another file."""
        path = Path(self.translate_path(self.path))
        if self.path == "/_probe.html":
            body = self.probe
        elif path.suffix == ".html" and path.is_file():
            body = path.read_bytes().replace(b"<head>", b"<head>" + EAR, 1)
        else:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """One that does not mind a browser that leaves before all is sent."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        """Say nothing."""


def seen_by(chromium, site):
    """Return what the probe finds."""
    jobs = [{"page": page, "width": width} for page in PAGES for width in WIDTHS.values()]
    Handler.probe = PROBE.replace("JOBS", json.dumps(jobs)).encode()
    server = Server(("127.0.0.1", 0), partial(Handler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/_probe.html"
    try:
        with tempfile.TemporaryDirectory() as profile:
            done = subprocess.run(
                [
                    chromium,
                    *OPTIONS,
                    f"--user-data-dir={profile}",
                    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                    address,
                ],
                capture_output=True,
                text=True,
                timeout=300,
            )
    finally:
        server.shutdown()
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    if not found or found[1] == "unfinished":
        raise SystemExit(f"{chromium} did not finish:\n{done.stderr[-2000:]}")
    return json.loads(unescape(found[1]))


def wrong_in(seen):
    """Return what is wrong with what the browser saw, one line each."""
    wrong = []
    for page in seen:
        at = f"{page['page']} at {page['width']} pixels"
        if "failed" in page:
            wrong.append(f"{at}: {page['failed']}")
            continue
        wrong += [f"{at}: {error}" for error in page["errors"]]
        wrong += [f"{at}: asks for {host}" for host in page["hosts"]]
        if page["wide"] > 0:
            wrong.append(f"{at}: {page['wide']} pixels wider than the screen")
        if page["text"] < 200:
            wrong.append(f"{at}: nearly empty")
        searched = page["page"].startswith("search")
        if searched and not any(CLASSIFIER in address for address in page["results"]):
            wrong.append(f"{at}: does not find AdvBPClassifier")
    return wrong


def main():
    """Check, print, and return the exit status."""
    arguments = [a for a in sys.argv[1:] if a != "--external"]
    site = Path(arguments[0] if arguments else "docs/_build/html").resolve()
    pages = {
        path: Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts
    }  # fmt: skip
    if not pages:
        print(f"no pages in {site}: build them first", file=sys.stderr)
        return 2
    if "--external" in sys.argv:
        links = {link for page in pages.values() for link in page.links if is_external(link)}
        print(*sorted(links), sep="\n")
        return 0
    wrong = broken_links(site, pages) + wrong_in_llms(site, pages)
    said = f"{len(pages)} pages, {sum(len(p.links) for p in pages.values())} links"
    chromium = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if chromium is None:
        said += "; SKIPPED for want of chromium: scripts, requests, widths, search"
    else:
        seen = seen_by(chromium, site)
        wrong += wrong_in(seen)
        said += f", {len(seen)} views in {chromium}"
    print(*wrong, said, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
