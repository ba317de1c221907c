"""The page in a real browser: Debian's Chromium, with photographs for a camera."""

import io
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

for package in ("starlette", "uvicorn", "websockets", "python_multipart", "prometheus_client"):
    pytest.importorskip(package, reason="the extra `serve` is not installed")
playwright_api = pytest.importorskip("playwright.sync_api", reason="drives the browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip(
        "no Chromium is installed (Debian: apt-get install chromium)", allow_module_level=True
    )

from running_server import serving  # noqa: E402

from tinygrad_mask.masks import load_detector  # noqa: E402

ROOT = Path(__file__).parents[3]
SHOTS = os.environ.get("TINYGRAD_MASK_SCREENSHOTS")
DATA = os.environ.get("TINYGRAD_MASK_DATA")

# Larxel's photographs (CC0) with one face, or two, by what is in them.
PHOTOGRAPHS = {
    "proper": "maksssksksss635",
    "improper": "maksssksksss832",
    "none": "maksssksksss757",
    "two": "maksssksksss478",
}


def photograph(kind):
    if DATA is None:
        pytest.skip("real photographs: TINYGRAD_MASK_DATA names no folder")
    name = PHOTOGRAPHS[kind]
    with Image.open(Path(DATA) / "larxel" / "images" / f"{name}.jpg") as image:
        return image.convert("RGB")


def camera_file(path, image):
    """A video of one picture, as Chromium plays it in place of a camera."""
    frame = Image.new("RGB", (640, 480), (90, 95, 100))
    if image is not None:
        scale = min(640 / image.width, 480 / image.height)
        image = image.resize((int(image.width * scale), int(image.height * scale)))
        frame.paste(image, ((640 - image.width) // 2, (480 - image.height) // 2))
    content = io.BytesIO()
    frame.save(content, "JPEG", quality=95)
    path.write_bytes(content.getvalue() * 10)
    return path


@contextmanager
def browsing(*options, language="en-GB", size=(1000, 900)):
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", *options]
        )
        try:
            context = browser.new_context(
                locale=language, viewport={"width": size[0], "height": size[1]}
            )
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.problems = []
            page.on("pageerror", lambda error: page.problems.append(str(error)))
            page.on(
                "console",
                lambda line: line.type == "error" and page.problems.append(line.text),
            )
            yield page
        finally:
            browser.close()


def opened(page, address):
    page.goto(address)
    page.wait_for_selector("body[data-ready]")


def shot(page, name):
    if SHOTS is not None:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def state(page):
    return page.get_attribute("#door", "data-state")


def until_state(page, expected):
    page.wait_for_selector(f'#door[data-state="{expected}"]')


def camera_options(path):
    return [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={path}",
    ]


@pytest.fixture(scope="module")
def server():
    with serving(load_detector()) as running:
        yield running


@pytest.mark.parametrize(
    ("kind", "expected", "persons"),
    [
        ("proper", "proper", 1),
        ("improper", "improper", 1),
        ("none", "none", 1),
        ("two", "proper", 2),
        ("nobody", "nobody", 0),
    ],
)
def test_what_the_camera_sees_is_said(server, tmp_path, kind, expected, persons):
    image = None if kind == "nobody" else photograph(kind)
    video = camera_file(tmp_path / "camera.mjpeg", image)
    with browsing(*camera_options(video)) as page:
        opened(page, server.http)
        page.click("#start")
        until_state(page, expected)
        words = json.loads((ROOT / "tinygrad_mask/masks/serving/page/words.en.json").read_text())
        assert page.inner_text("#state") == words["states"][expected]
        faces = json.loads(page.get_attribute("#drawing", "data-faces"))
        assert len(faces) == persons
        for face in faces:
            left, top, right, bottom = face["box"]
            assert 0 <= left < right <= 640
            assert 0 <= top < bottom <= 480
        page.wait_for_timeout(500)
        counts = page.eval_on_selector_all("#counts dd", "all => all.map(n => +n.textContent)")
        assert sum(counts) == persons
        shot(page, f"camera-{kind}")
        page.click("#stop")
        assert state(page) == "starting"
        assert page.problems == []


def test_a_photograph_by_button_drop_and_paste(server):
    picture = ROOT / "docs" / "pictures" / "face.png"
    with browsing() as page:
        opened(page, server.http)
        page.set_input_files("#file", picture)
        page.wait_for_selector("#faces li")
        by_button = page.inner_text("#faces")
        assert state(page) != "starting"
        for event in ("drop", "paste"):
            page.evaluate("document.querySelector('#faces').replaceChildren()")
            page.evaluate(
                """async ([kind, bytes]) => {
                    const file = new File([new Uint8Array(bytes)], "x.png", {type: "image/png"});
                    const transfer = new DataTransfer();
                    transfer.items.add(file);
                    const event = kind === "drop"
                        ? new DragEvent("drop", {dataTransfer: transfer, bubbles: true})
                        : new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true});
                    document.body.dispatchEvent(event);
                }""",
                [event, list(picture.read_bytes())],
            )
            page.wait_for_selector("#faces li")
            assert page.inner_text("#faces") == by_button
        shot(page, "upload")
        assert page.problems == []
        page.set_input_files("#file", ROOT / "README.md")
        page.wait_for_selector("#notice:not([hidden])")
        assert "expected JPEG" in page.inner_text("#notice")


def test_a_camera_that_is_denied_or_missing(server):
    for options, expected in (
        (["--use-fake-device-for-media-stream", "--deny-permission-prompts"], "camera denied"),
        ([], "camera missing"),
    ):
        with browsing(*options) as page:
            opened(page, server.http)
            page.click("#start")
            page.wait_for_selector("#notice:not([hidden])")
            name = page.get_attribute("#notice", "data-name")
            assert name in ("camera denied", expected)
            assert page.is_visible("#start")
            assert page.problems == []


def test_a_server_that_goes_and_comes_back(tmp_path):
    video = camera_file(tmp_path / "camera.mjpeg", None)
    with browsing(*camera_options(video)) as page:
        with serving(load_detector()) as server:
            opened(page, server.http)
            page.click("#start")
            until_state(page, "nobody")
        page.wait_for_selector('#notice[data-name="server gone"]')
        assert state(page) == "starting"
        shot(page, "gone")
        with serving(load_detector(), port=server.port):
            until_state(page, "nobody")
            page.wait_for_selector("#notice", state="hidden")


@pytest.mark.parametrize("size", [(1000, 900), (360, 720)])
@pytest.mark.parametrize("language", ["en-GB", "de-AT"])
def test_two_languages_at_any_width(server, language, size):
    with browsing(language=language, size=size) as page:
        opened(page, server.http)
        assert page.get_attribute("html", "lang") == language[:2]
        page.click("#open-settings")
        file = ROOT / f"tinygrad_mask/masks/serving/page/words.{language[:2]}.json"
        assert page.inner_text("#privacy") == json.loads(file.read_text())["privacy"]
        shot(page, f"settings-{language}-{size[0]}")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= size[0]
        page.select_option("#language", "de" if language.startswith("en") else "en")
        page.wait_for_function("lang => document.documentElement.lang !== lang", arg=language[:2])
        assert page.problems == []


def test_the_keyboard_reaches_everything(server):
    with browsing() as page:
        opened(page, server.http)
        page.focus("#open-settings")
        page.keyboard.press("Enter")
        reached = []
        for _ in range(12):
            reached.append(page.evaluate("document.activeElement.id"))
            page.keyboard.press("Tab")
        for name in ("sensitivity", "camera", "mirror", "sound", "language"):
            assert name in reached


def test_axe_finds_nothing_serious(server):
    axe = os.environ.get("TINYGRAD_MASK_AXE")
    if axe is None:
        pytest.skip("TINYGRAD_MASK_AXE names no axe.min.js (npm pack axe-core)")
    with browsing() as page:
        opened(page, server.http)
        page.click("#open-settings")
        page.evaluate(Path(axe).read_text())
        found = page.evaluate("async () => (await axe.run()).violations")
    serious = [v["id"] for v in found if v["impact"] in ("serious", "critical")]
    assert serious == []
