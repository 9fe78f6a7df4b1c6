"""Makes the page at `/` from the configuration: one document per language, made once."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from io import BytesIO
from typing import Final

import segno

from homeserver.config import Config
from homeserver.landing import clients
from homeserver.landing.words import Words
from homeserver.web.page import Branding, page

WEB_CLIENT_PATH: Final = "/web/"
SCRIPT: Final = (
    'document.querySelector("button.copy").addEventListener("click",async(event)=>{const button=event.currentTarget;'
    'try{await navigator.clipboard.writeText(document.querySelector("code.server").textContent);'
    "button.textContent=button.dataset.copied}catch(failure){"
    'getSelection().selectAllChildren(document.querySelector("code.server"))}})'
)
STYLE: Final = (
    "body{max-width:44rem}.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(17rem,1fr));gap:1rem}"
    "section{background:var(--soft);border:1px solid var(--line);border-radius:12px;padding:1rem 1.25rem;margin:1rem 0}"
    ".cards section{margin:0}h2{margin:.2rem 0 .6rem}p{margin:.5rem 0}ul{margin:.5rem 0}"
    ".dim{color:var(--dim);font-size:.9rem}"
    ".row{display:flex;flex-wrap:wrap;align-items:center;gap:.3rem .8rem}"
    ".server{display:inline-block;font-size:1.1rem;padding:.35rem .7rem;border:1px solid var(--line);border-radius:6px;"
    "background:var(--back);overflow-wrap:anywhere}"
    "button.copy{margin:.3rem 0 0 .4rem;padding:.35rem .9rem}.qr{width:11rem;max-width:100%;background:#fff;padding:.6rem;"
    "border-radius:8px;display:block;margin:.6rem 0}footer{margin-top:2rem}footer a{margin-right:1rem}"
    "@media (pointer:coarse) and (max-width:40rem){.qr,.scan{display:none}}"  # nobody scans the screen they hold
)


def document(config: Config, branding: Branding, language: str, words: Words) -> str:
    """The whole document in one language."""
    values = {"name": branding.name, "server": config.server.name}
    text = config.branding.text or words.text.format(**values)
    inner = (
        f"<p>{escape(text)}</p>{_connect(config, words)}"
        f'<div class="cards">{_phone(config, words)}<div>{_account(config, words)}{"".join(_help(config, words))}</div></div>'
        f"{_foot(config)}"
    )
    title = words.title.format(**values)
    return page(title, inner, SCRIPT, branding=branding, language=language, style=STYLE)


def _connect(config: Config, words: Words) -> str:
    lines = [f"<section><h2>{words.connect}</h2>"]
    if config.web_client is not None:
        lines.append(
            f'<p class="row"><a class="button" href="{WEB_CLIENT_PATH}">{words.in_browser}</a> '
            f'<span class="dim">{words.in_browser_hint}</span></p>'
        )
    lines.append(
        f'<p>{words.enter}</p><p><code class="server">{escape(config.server.name)}</code>'
        f'<button class="copy" type="button" data-copied="{words.copied}">{words.copy}</button></p>'
    )
    if base_url := config.server.public_baseurl:
        address = f"<code>{escape(base_url)}</code>"
        lines.append(f'<p class="dim">{words.address.format(address=address)}</p>')
    lines.append(f"<h2>{words.apps}</h2><ul>")
    for link in clients.others(config.server.name, base_url):
        hint = "" if link.knows_server else f' <span class="dim">({words.no_link})</span>'
        lines.append(f"<li>{_link(link.url, link.name)}{hint}</li>")
    return "".join([*lines, "</ul></section>"])


def _phone(config: Config, words: Words) -> str:
    url = clients.element_x(config.server.name)
    return (
        f'<section><h2>{words.phone}</h2>{qr_code(url)}<p class="dim scan">{words.scan}</p>'
        f'<p><a class="button" href="{escape(url)}" rel="noreferrer">{words.open_app}</a></p></section>'
    )


def qr_code(text: str) -> str:
    """The text as an SVG element (ISO/IEC 18004, error correction M)."""
    out = BytesIO()
    segno.make(text, error="m", micro=False).save(
        out, kind="svg", xmldecl=False, svgns=True, omitsize=True, border=0, svgclass="qr", lineclass=None
    )
    return out.getvalue().decode()


def _account(config: Config, words: Words) -> str:
    registration = config.registration
    if not registration.enabled:
        text = words.ask
    elif all("token" in flow for flow in registration.flows):
        text = words.by_invitation
    elif all("email" in flow for flow in registration.flows):
        text = words.by_mail
    else:
        text = words.can_register
    return f"<section><h2>{words.account}</h2><p>{text}</p></section>"


def _help(config: Config, words: Words) -> Iterator[str]:
    server = config.server
    if not (server.support_page or server.admin_contact):
        return
    yield f"<br><section><h2>{words.help}</h2><ul>"
    if server.support_page:
        yield f"<li>{_link(server.support_page, words.support_page)}</li>"
    if server.admin_contact and server.contact_uri:
        yield f"<li>{words.contact}: {_link(server.contact_uri, server.admin_contact.removeprefix('mailto:'))}</li>"
    yield "</ul></section>"


def _foot(config: Config) -> str:
    links = "".join(_link(url, text) for text, url in config.branding.links.items())
    return f"<footer>{links}</footer>" if links else ""


def _link(url: str, text: str) -> str:
    return f'<a href="{escape(url)}" rel="noopener noreferrer">{escape(text)}</a>'
