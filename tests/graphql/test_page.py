"""GraphiQL for browsers: the page, its files, and the policy they are served under."""

import aiohttp
import pytest

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self' 'unsafe-inline'; "
    "font-src 'self' data:; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


async def test_a_browser_gets_the_page_under_its_policy(edge):
    async with edge.client.get(edge.url, headers=BROWSER) as response:
        assert (response.status, response.content_type) == (200, "text/html")
        assert response.headers["content-security-policy"] == POLICY
        assert response.headers["x-content-type-options"] == "nosniff"
        page = await response.text()
    assert "/graphql/assets/app.js" in page
    assert "<script>" not in page


@pytest.mark.parametrize(("name", "content_type"), [("app.js", "text/javascript"), ("app.css", "text/css"),
                                                ("icon.svg", "image/svg+xml"), ("json.worker.js", "text/javascript")])  # fmt: skip
async def test_files_have_their_types_and_are_asked_for_again_by_etag(edge, name, content_type):
    url = f"{edge.url}/assets/{name}"
    async with edge.client.get(url) as response:
        assert (response.status, response.content_type) == (200, content_type)
        assert (response.headers["cache-control"], response.headers["x-content-type-options"]) == (
            "no-cache",
            "nosniff",
        )
        length, etag = len(await response.read()), response.headers["etag"]
    async with edge.client.get(url, headers={"if-none-match": etag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    async with edge.client.head(url) as response:
        assert (response.status, int(response.headers["content-length"])) == (200, length)


async def test_a_chunk_may_be_kept_for_ever(edge):
    async with edge.client.get(f"{edge.url}/assets/chunk-TY5L7ZAL.js") as response:
        if response.status == 404:
            pytest.skip("the bundle was built anew; name another chunk")
        assert "immutable" in response.headers["cache-control"]


@pytest.mark.parametrize("path", ["../edge.py", "..%2f..%2fmain.py", "%2e%2e/%2e%2e/settings.py", "", "./app.js",
                                  "/etc/passwd", "SHA256SUMS", "app.js/", "app.js%00.svg", "..\\main.py"])  # fmt: skip
async def test_no_path_leads_out_of_the_files(edge, path):
    url = f"{edge.url.removesuffix('/graphql')}/graphql/assets/{path}"
    async with aiohttp.ClientSession(requote_redirect_url=False) as client:
        from yarl import URL

        async with client.get(URL(url, encoded=True)) as response:
            assert response.status == 404


async def test_switched_off_there_is_no_page(serve):
    async with serve(graphiql=False) as edge:
        async with edge.client.get(edge.url, headers=BROWSER) as response:
            assert response.status == 400
        async with edge.client.get(f"{edge.url}/assets/app.js") as response:
            assert response.status == 404
