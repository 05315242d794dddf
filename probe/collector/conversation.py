"""What is said on one accepted connection, whatever the port: the client speaks first, and its bytes tell the protocol.

A token is stored before it is answered. TLS may stand around any of the others; nothing else does.
"""

from dataclasses import replace

import trio

from probe import receipts, tokens
from probe.collector import hello, names, web
from probe.collector.desk import Known
from probe.collector.house import DEADLINE, House
from probe.collector.line import Line, Over, Spoken
from probe.collector.sniff import FRAME, sniff
from probe.model import Transport

_DNS = 53
_DNS_OVER_TLS = 853  # RFC 7858
# After a handshake whose server name held the token: how long a request may take, beside one round trip, before the
# receipt is sent instead. A client that has something to say sends it with its last handshake message (TLS 1.3), or a
# round trip later (TLS 1.2); one that said all it wanted waits for us.
_PAUSE = 0.1
_LONGEST_TRIP = 0.5
_AFTER_RECEIPT = 1.0  # seconds for what may still come inside


def is_forged(data: bytes, source: str, house: House) -> bool:
    """Whether these first bytes are a token that is forged, and no protocol's; then it is counted."""
    if sniff(data, dns=True) != "raw" or not tokens.FORM.search(data) or house.desk.recognise(data):
        return False
    house.desk.unknown(Transport.TCP, source)
    return True


async def converse(line: Line, house: House) -> None:
    """The whole conversation. What brought nothing that is known is counted, however it ended."""
    if line.at in house.dns_ports:
        line.at = _DNS  # a listener elsewhere stands in for it, behind a redirection that may be another host's
    talk = _Talk(line, house)
    try:
        await talk.speak(line, "tcp", b"")
        if talk.settled:
            await line.finish()
    except trio.BrokenResourceError:
        pass  # the peer left: what it brought is stored
    finally:
        # Cut off in the middle: what was recognised did arrive. It is stored, and nobody is answered.
        with trio.CancelScope(shield=True):
            await talk.keep_the_rest()
        if not talk.settled:
            house.desk.unknown(Transport.TCP, line.source)


class _Talk:
    def __init__(self, line: Line, house: House) -> None:
        self._line = line
        self._house = house
        self._dns = line.at == _DNS
        self._greeted: Known | None = None  # the token of the TLS hello
        self._name: str | None = None  # its server name
        self._pending: tuple[bytes, Spoken, Over] | None = None  # what may hold a token, while the rest is waited for
        self.settled = False  # something known came, or what came is counted already

    async def speak(self, stream: trio.abc.Stream, over: Over, data: bytes) -> None:
        """Read until the bytes tell what they are, then go on as that."""
        spoken = sniff(data, self._dns)
        while spoken is None:
            part = await _more(stream)
            if not part:
                break
            data += part
            spoken = sniff(data, self._dns)
        if spoken == "tls" and over == "tcp":
            await self._tls(data)
        elif spoken == "http":
            await self._http(stream, over, data)
        elif spoken == "dns":
            await self._framed(stream, over, data)
        elif data:
            await self._raw(stream, over, data)

    async def keep_the_rest(self) -> None:
        """Store the token of what had come when the connection ended or its time was over."""
        if self.settled or self._pending is None:
            return
        data, channel, over = self._pending
        known = self._house.desk.recognise(data)
        if known is not None:
            await self._kept(known, channel, over)

    # --- anything with a token in it ----------------------------------------------------------------------------------

    async def _raw(self, stream: trio.abc.Stream, over: Over, data: bytes) -> None:
        desk = self._house.desk
        while (known := desk.recognise(data)) is None:
            if tokens.FORM.search(data):
                return  # a whole token, and a forged one
            part = await _more(stream)
            if not part:
                return
            # What was searched is not searched again: whoever sends byte by byte would make us busy.
            data = data[1 - tokens.TOKEN_LENGTH :] + part
        if await self._kept(known, "tcp", over):
            await stream.send_all(self._receipt(known, over))

    async def _kept(self, known: Known, channel: Spoken, over: Over) -> bool:
        """Store the arrival. False: it is lost, and must not be answered."""
        self.settled = True
        house = self._house
        arrival = self._line.arrival(known, house.clock(), channel, over, name=self._name)
        kept = await house.desk.keep([(known, arrival)])
        house.tally[f"{channel} over {over}" if kept else "lost"] += 1
        return kept

    def _receipt(self, known: Known, channel: str) -> bytes:
        line = self._line
        return receipts.write(known.key, known.token, channel, line.source, line.port).encode() + b"\n"

    # --- TLS ----------------------------------------------------------------------------------------------------------

    async def _tls(self, data: bytes) -> None:
        """The server name is an arrival before any handshake, whether or not that succeeds."""
        line = self._line
        data = await self._hello(data)
        found = hello.parse(data)
        self._name = found.name if found else None
        if not await self._welcome(data):
            return
        line.ahead = data
        stream = trio.SSLStream(line, self._house.context, server_side=True)
        await stream.do_handshake()
        if stream.selected_alpn_protocol() == "dot" or line.at == _DNS_OVER_TLS:
            self._dns = True
        await self._inside(stream)
        await stream.aclose()

    async def _hello(self, data: bytes) -> bytes:
        while lacking := hello.missing(data):
            whole = len(data) + lacking
            while len(data) < whole:
                self._pending = data, "tls", "tls"
                part = await _more(self._line)
                if not part:
                    return data
                data += part
        self._pending = None
        return data

    async def _welcome(self, data: bytes) -> bool:
        """Whether a handshake follows; a token in the hello is stored first."""
        house = self._house
        self._greeted = house.desk.recognise((self._name or "").encode()) or house.desk.recognise(data)
        if self._greeted is not None:
            return await self._kept(self._greeted, "tls", "tls")
        # A handshake costs a hundred times what a look does: none for a forged token, or in a flood of strangers.
        if tokens.FORM.search(data):
            return False
        if not house.handshakes.allow(self._line.source, house.clock()):
            house.tally["tls refused"] += 1
            house.desk.missed()  # a token may have been about to come inside
            return False
        return True

    async def _inside(self, stream: "trio.SSLStream[Line]") -> None:
        """What is said in TLS. Who only greeted gets the receipt of the greeting."""
        first, more = b"", DEADLINE
        if self._greeted:
            with trio.move_on_after(_PAUSE + min(self._line.round_trip(), _LONGEST_TRIP)):
                first = await _more(stream)
            if not first:
                await stream.send_all(self._receipt(self._greeted, "tls"))
                more = _AFTER_RECEIPT
        with trio.move_on_after(more):
            await self.speak(stream, "tls", first)

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    async def _http(self, stream: trio.abc.Stream, over: Over, data: bytes) -> None:
        reading = web.Reading()
        known = await self._request(stream, reading, data, over)
        question = web.dns_question(reading.request, bytes(reading.body)) if reading.request else None
        if question is not None:
            if known is not None and self._house.desk.recognise(question) is None:  # it stood beside the question
                await self._kept(known, "http", over)
            reply = await self._asked(question, "https" if over == "tls" else over)
            if reply is not None:
                await stream.send_all(web.answer(200, reply, web.DNS_MESSAGE))
        elif known is not None:
            if await self._kept(known, "http", over):
                await stream.send_all(web.answer(200, self._receipt(known, "http")))
        elif self._greeted is not None:
            await stream.send_all(web.answer(200, self._receipt(self._greeted, "tls")))
        elif not self.settled:
            self.settled = True
            if self._house.desk.unknown(Transport.TCP, self._line.source):
                await stream.send_all(web.answer(404))

    async def _request(self, stream: trio.abc.Stream, reading: web.Reading, data: bytes, over: Over) -> Known | None:
        """Read until a token is known and nothing depends on the rest, or to the end. The token, wherever it stood."""
        recognise, known, seen, held = self._house.desk.recognise, None, b"", 0
        while True:
            reading.feed(data)
            seen = seen[1 - tokens.TOKEN_LENGTH :] + data
            # The body too: what came in pieces (chunks) stands together only there.
            body = bytes(reading.body[max(0, held + 1 - tokens.TOKEN_LENGTH) :])
            known, held = known or recognise(seen) or recognise(body), len(reading.body)
            if reading.done or (known and reading.request and not web.is_dns(reading.request)):
                return known
            if known is not None:
                self._pending = known.token.encode(), "http", over
            data = await _more(stream)
            if not data:
                return known

    # --- DNS ----------------------------------------------------------------------------------------------------------

    async def _framed(self, stream: trio.abc.Stream, over: Over, data: bytes) -> None:
        """Messages behind their lengths, one after the other, answered in order (RFC 7766)."""
        while True:
            whole = FRAME + int.from_bytes(data[:FRAME], "big") if len(data) >= FRAME else FRAME + 1
            if len(data) < whole:
                part = await _more(stream)
                if not part:
                    return
                data += part
                continue
            reply = await self._asked(data[FRAME:whole], over)
            if reply is None:
                return
            await stream.send_all(len(reply).to_bytes(FRAME, "big") + reply)
            data = data[whole:]

    async def _asked(self, message: bytes, over: Over) -> bytes | None:
        """The answer to a DNS message; None where there is none to be given."""
        line, house = self._line, self._house
        recognise = house.desk.recognise
        question = names.read(message, house.zone, recognise, line.source, line.port, line.at, over, house.clock())
        if question is None:
            return None
        if question.known is None and (known := recognise(message)) is not None:  # beside the question, in an option
            await self._kept(known, "tcp", over)
        self.settled = True
        if question.arrival is not None:
            question = replace(question, arrival=replace(question.arrival, syn=line.syn))
        admitted = await house.desk.admit(question)
        if question.known is not None:
            house.tally[f"dns over {over}" if admitted else "lost"] += 1
        return names.reply(question) if admitted else None


async def _more(stream: trio.abc.Stream) -> bytes:
    """More bytes; none at the end, a broken one too: what came before it counts."""
    try:
        return bytes(await stream.receive_some())
    except trio.BrokenResourceError:
        return b""
