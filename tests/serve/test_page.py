"""The page in a real browser: search, mark, filter, group, export, a phone, the keyboard alone."""

import base64

import browser
import pytest
from serving import TOKEN, create, listening

SHOWN = "[...document.querySelectorAll('#results .pic')].map((b) => b.image.id)"
SAID = "document.getElementById('status').textContent"


@pytest.fixture
def page(model, index_folder):
    browser.find()
    with create(model, index_folder) as application, listening(application) as address:
        with browser.live() as page:
            page.size(1280)
            page.open(address)
            page.wait(f"{SHOWN}.length === 24")
            yield page
        assert not page.told, page.told  # No error, no refused resource, no broken policy.


def visible(name):
    return f"!!document.getElementById({name!r}).offsetParent"


def wide(page):
    """Whether something is wider than the window."""
    return page.run("document.documentElement.scrollWidth > innerWidth")


def test_search_mark_filter_group_and_export(page, crops):
    page.choose_file("#file", crops / "cam1" / "p0_20260310_080512.png")
    page.wait(f"{SHOWN}.length === 24 && document.querySelectorAll('.marks').length === 24")
    first, second, third, *_ = page.run(SHOWN)
    assert page.run("document.querySelector('#results b').textContent") == "1.000"
    page.click("#results li:nth-child(1) .marks button:first-child")
    page.wait(f"{SHOWN}.length === 23 && document.querySelectorAll('#same li').length === 2")
    page.click("#results li:nth-child(1) .marks button:last-child")
    page.wait(f"{SHOWN}.length === 22 && document.querySelectorAll('#not li').length === 1")
    assert not {first, second} & set(page.run(SHOWN))
    assert "kept as person 1" in page.run("document.getElementById('who').textContent")
    page.click("#filters summary")
    page.run(
        "(() => { const s = document.querySelector('[name=cameras]'); s.value = 'cam2';"
        "s.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )
    page.wait(f"{SHOWN}.length < 22")
    seen = page.run("[...document.querySelectorAll('#results small')].map((s) => s.textContent)")
    assert seen and all("cam2" in words for words in seen)
    page.click("#not button")  # Taken back, and forgotten on disk as well.
    page.wait("document.querySelectorAll('#not li').length === 0")
    person = page.run("fetch('/api/people/1').then((a) => a.json())")
    assert person["not_same"] == [] and [image["id"] for image in person["images"]] == [first]

    page.click("#to-people")
    page.wait("document.querySelectorAll('#cards article').length === 1")
    page.run("document.querySelector('[name=k1]').value = 5")
    page.run("document.querySelector('[name=eps]').value = 0.6")
    page.click("#grouping button")
    page.wait("document.querySelectorAll('#cards article').length > 2")
    count = page.run("document.querySelectorAll('#cards article').length")
    page.click("#cards article:nth-child(1) input")
    page.click("#cards article:nth-child(2) input")
    page.click("#merge")
    page.wait(f"document.querySelectorAll('#cards article').length === {count - 1}")
    page.run("document.querySelector('#cards article:last-child .tools button').click()")
    page.wait(visible("person"))
    members = page.run("document.querySelectorAll('#members li').length")
    page.click("#members li:nth-child(1) .pic")
    page.wait("!document.getElementById('split').disabled || opened.count === 1")
    if members > 1:  # What is split off is shown.
        page.click("#split")
        page.wait("document.querySelectorAll('#members li').length === 1")
    for link, kind in (("csv", "text/csv"), ("zip", "application/zip")):
        code = f"fetch(document.getElementById({link!r}).href)"
        got = page.run(f"{code}.then((a) => [a.status, a.headers.get('content-type')])")
        assert got[0] == 200 and got[1].startswith(kind)

    page.click("#to-search")
    page.click("#open-person")
    page.wait(f"{visible('person')} && opened.id === 1")
    page.click("#members .pic")
    page.click("#not-them")
    page.wait("opened.count === 0")
    page.click("#to-search")  # What is looked for is what the person is now.
    page.wait("document.querySelectorAll('#same li').length === 1")
    assert page.run("document.querySelectorAll('#not li').length") == 1


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_photograph_is_dropped_or_pasted(page, crops, way):
    file = crops / "cam1" / "p0_20260310_080512.png"
    data = base64.b64encode(file.read_bytes()).decode()
    event = {
        "drop": "new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})",
        "paste": "new ClipboardEvent('paste', {clipboardData: data, bubbles: true})",
    }
    page.run(
        f"(() => {{ const bytes = Uint8Array.from(atob('{data}'), (c) => c.charCodeAt(0));"
        "const data = new DataTransfer();"
        "data.items.add(new File([bytes], 'someone.png', {type: 'image/png'}));"
        f"document.getElementById('drop').dispatchEvent({event[way]}); }})()"
    )
    page.wait("document.querySelectorAll('.marks').length === 24")
    assert page.run("document.querySelector('#results b').textContent") == "1.000"
    assert page.run("document.querySelector('#results .pic').image.name") == file.name


def test_with_the_keyboard_alone(page):
    focus = "document.activeElement"
    for _ in range(20):
        page.key("Tab")
        if page.run(f"{focus}.classList.contains('pic')"):
            break
    start = page.run(f"{focus}.image.id")
    page.key("ArrowRight")
    assert page.run(f"{focus}.image.id") == page.run(SHOWN)[1] != start
    page.key("ArrowDown")
    page.key("Home")
    assert page.run(f"{focus}.image.id") == start
    page.key("Enter")
    page.wait(f"{SHOWN}.length === 23 && {focus}.classList.contains('pic')")
    page.key("ArrowRight")
    liked = page.run(f"{focus}.image.id")
    page.key("s")
    page.wait(f"{SHOWN}.length === 22 && {focus}.classList.contains('pic')")
    page.key("n")
    page.wait(f"{SHOWN}.length === 21 && {focus}.classList.contains('pic')")
    person = page.run("fetch('/api/people/1').then((a) => a.json())")
    assert [image["id"] for image in person["images"]] == [start, liked]
    assert len(person["not_same"]) == 1
    page.key("o")
    page.wait("document.getElementById('look').open && document.getElementById('large').complete")
    page.key("Escape")
    page.wait("!document.getElementById('look').open")
    page.key("g")
    page.wait(f"{visible('people')} && document.querySelectorAll('#cards article').length === 1")
    page.key("f")
    assert page.run(f"{focus}.name") == "cameras"


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone(page, dark):
    page.size(400, 800, dark=dark)
    paper = "rgb(21, 24, 29)" if dark else "rgb(255, 255, 255)"
    page.wait(f"getComputedStyle(document.body).backgroundColor === {paper!r}")
    assert not wide(page)
    page.click("#results .pic")
    page.wait(visible("query"))
    page.click("#filters summary")
    assert not wide(page)
    small = page.run(
        "[...document.querySelectorAll('.marks button, .links button')].filter((b) => "
        "b.offsetParent && (b.offsetHeight < 38 || b.offsetWidth < 38)).length"
    )
    assert small == 0
    page.wait("document.querySelectorAll('.marks').length === 23")
    page.click("#results li:nth-child(2) .marks button")
    page.wait(visible("open-person"))
    page.click("#open-person")
    page.wait(visible("person"))
    assert not wide(page)
    page.click("#to-people")
    page.wait(visible("people"))
    assert not wide(page)
    page.run("location.assign('/api')")
    page.wait("document.querySelectorAll('td code').length > 9")
    assert page.run("getComputedStyle(document.body).backgroundColor") == paper
    assert not wide(page)  # No name is broken into letters to make room.
    assert page.run("[...document.querySelectorAll('td code')].every((c) => c.offsetHeight < 30)")


def test_a_token_is_asked_for(model, index_folder):
    browser.find()
    tokens = {TOKEN: "anna"}
    with (
        create(model, index_folder, tokens=tokens, is_loopback=False) as application,
        listening(application) as address,
        browser.live() as page,
    ):
        page.size(400)
        page.open(address)
        page.wait("document.getElementById('login')?.open")
        for letter in TOKEN:
            page.key(letter)
        page.key("Enter")
        page.wait(f"{SHOWN}.length === 24")
        assert TOKEN not in page.run("location.href + document.cookie")
