"""A rewritten prompt stays in its language; only a clear change counts."""

from __future__ import annotations

import pytest

from agentlightning.algorithms.apo.language import same_language

ENGLISH = "You are the clerk. Read the ticket and name the desk it belongs to. Today is ⟦date_1⟧."
TEXTS = {
    "English": "Read the message from the customer. If it is about a parcel, answer with the name of the desk.",
    "German": "Lies die Nachricht des Kunden. Wenn sie von einem Paket handelt, nenne die Abteilung und nichts sonst.",
    "French": "Lisez le message du client. Si le message est une question sur un colis, donnez le nom du service.",
    "Spanish": "Lee el mensaje del cliente. Si es una pregunta sobre un paquete, da el nombre de la oficina.",
    "Italian": "Leggi il messaggio del cliente. Se è una domanda su un pacco, di' il nome della sezione.",
    "Portuguese": "Leia a mensagem do cliente. Se é uma pergunta sobre um pacote, dê o nome do setor.",
    "Dutch": "Lees het bericht van de klant. Als het over een pakket gaat, geef dan alleen de naam van de afdeling.",
    "Russian": "Прочитай сообщение клиента и назови отдел.",
    "Greek": "Διάβασε το μήνυμα του πελάτη και πες το τμήμα.",
    "Chinese": "请仔细阅读工单,只回答部门名称。",
    "Korean": "고객의 메시지를 읽고 부서 이름만 답하세요.",
    "Arabic": "اقرأ رسالة العميل واذكر القسم.",
    "Thai": "อ่านข้อความของลูกค้าและตอบชื่อแผนก",
}
CHANGES = [(a, b) for a in TEXTS for b in TEXTS if a != b and {a, b} != {"Chinese", "Korean"}]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_another_language_is_noticed(before: str, after: str) -> None:
    assert not same_language(TEXTS[before], TEXTS[after])


@pytest.mark.parametrize("language", TEXTS)
def test_more_of_the_same_language_is_the_same(language: str) -> None:
    assert same_language(TEXTS[language], f"{TEXTS[language]}\n{TEXTS[language].upper()}")


@pytest.mark.parametrize(
    "new",
    [
        f"{ENGLISH}\nFor «Wo ist mein Paket?» the answer is: shipping. For « Où est mon colis ? » it is the same.",
        f"{ENGLISH}\nAnswer in German: Vielen Dank für die Nachricht und einen schönen Tag.",
        f"{ENGLISH}\nWrite 退货 for returns.",
        "Name the desk. JSON only: {queue: str}",
        "SELECT a, b FROM t WHERE x = ⟦id_1⟧",
        "",
        "1. 2. 3.",
    ],
)
def test_quotations_lists_and_code_are_no_change(new: str) -> None:
    assert same_language(ENGLISH, new)


def test_a_prompt_without_words_may_become_anything() -> None:
    assert same_language("", TEXTS["German"]) and same_language("⟦input⟧", TEXTS["Chinese"])
