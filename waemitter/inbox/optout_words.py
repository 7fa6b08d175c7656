"""The opt-out words of each language, and the confirmations.

Only words that hardly anybody sends for another reason: "cancel", "end" or "quit" belong to many a dialogue, and are left out.
The start words may be common ones: they count only for a person who has stopped us.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class Words(NamedTuple):
    """`stopped` and `started` confirm, in the language; at most 4,096 characters (the Cloud API's limit of a text)."""

    stop: tuple[str, ...]
    start: tuple[str, ...]
    stopped: str
    started: str


LANGUAGES: Final[Mapping[str, Words]] = MappingProxyType(
    {
        "en": Words(
            ("stop", "stop all", "stopall", "unsubscribe", "opt out", "optout", "remove me"),
            ("start", "unstop", "subscribe", "resubscribe", "opt in", "optin"),
            "You have been unsubscribed and will get no more messages from us. Reply START to get them again.",
            "You are subscribed again. Reply STOP to unsubscribe.",
        ),
        "es": Words(
            ("baja", "darme de baja", "cancelar suscripción", "no más mensajes", "stop"),
            ("alta", "suscribir", "suscribirme", "start"),
            "Te hemos dado de baja y no recibirás más mensajes nuestros. Responde ALTA para volver a recibirlos.",
            "Vuelves a estar suscrito. Responde BAJA para darte de baja.",
        ),
        "pt": Words(
            ("parar", "descadastrar", "cancelar inscrição", "remover", "stop"),
            ("inscrever", "reativar", "recomeçar", "start"),
            "Você foi descadastrado e não receberá mais mensagens nossas. Responda REATIVAR para voltar a recebê-las.",
            "Seu cadastro foi reativado. Responda PARAR para sair.",
        ),
        "fr": Words(
            ("arrêt", "arrêter", "désabonner", "me désabonner", "désinscrire", "stop"),
            ("reprendre", "abonner", "réabonner", "start"),
            "Vous êtes désabonné et ne recevrez plus de messages de notre part. Répondez REPRENDRE pour en recevoir à nouveau.",
            "Vous êtes de nouveau abonné. Répondez STOP pour vous désabonner.",
        ),
        "de": Words(
            ("stopp", "abmelden", "abbestellen", "austragen", "keine nachrichten mehr", "stop"),
            ("anmelden", "abonnieren", "start"),
            "Sie sind abgemeldet und erhalten keine Nachrichten mehr von uns. Mit START erhalten Sie sie wieder.",
            "Sie sind wieder angemeldet. Mit STOPP melden Sie sich ab.",
        ),
        "it": Words(
            ("annulla iscrizione", "disiscrivimi", "disiscriviti", "cancellami", "stop"),
            ("iscrivimi", "riattiva", "start"),
            "La tua iscrizione è annullata e non riceverai altri messaggi da noi. Rispondi RIATTIVA per riceverli di nuovo.",
            "La tua iscrizione è di nuovo attiva. Rispondi STOP per annullarla.",
        ),
        "nl": Words(
            ("afmelden", "uitschrijven", "stop"),
            ("aanmelden", "inschrijven", "start"),
            "Je bent afgemeld en krijgt geen berichten meer van ons. Antwoord START om ze weer te krijgen.",
            "Je bent weer aangemeld. Antwoord STOP om je af te melden.",
        ),
        "pl": Words(
            ("wypisz", "wypisz mnie", "rezygnuję", "stop"),
            ("zapisz", "zapisz mnie", "wznów", "start"),
            "Nie będziesz już otrzymywać od nas wiadomości. Odpowiedz START, aby znów je otrzymywać.",
            "Znów będziesz otrzymywać wiadomości. Odpowiedz STOP, aby zrezygnować.",
        ),
        "ru": Words(
            ("стоп", "отписаться", "отпишите меня"),
            ("старт", "подписаться"),
            "Вы отписаны и больше не будете получать от нас сообщений. Ответьте СТАРТ, чтобы получать их снова.",
            "Вы снова подписаны. Ответьте СТОП, чтобы отписаться.",
        ),
        "tr": Words(
            ("ret", "iptal et", "abonelikten çık"),
            ("başla", "abone ol"),
            "Aboneliğiniz sona erdi, bizden artık mesaj almayacaksınız. Yeniden almak için BAŞLA yazın.",
            "Aboneliğiniz yeniden başladı. Çıkmak için RET yazın.",
        ),
        "id": Words(
            ("berhenti", "berhenti langganan", "stop"),
            ("mulai", "langganan", "start"),
            "Anda telah berhenti berlangganan dan tidak akan menerima pesan lagi dari kami. Balas MULAI untuk menerimanya lagi.",
            "Anda berlangganan lagi. Balas BERHENTI untuk berhenti.",
        ),
        "hi": Words(
            ("रोकें", "रोको", "बंद करें", "बंद करो"),
            ("शुरू करें", "शुरू करो", "चालू करें"),
            "आपको हमारी ओर से अब कोई संदेश नहीं मिलेगा। फिर से पाने के लिए शुरू करें लिखें।",
            "आपको फिर से संदेश मिलेंगे। रोकने के लिए रोकें लिखें।",
        ),
        "ar": Words(
            ("إيقاف", "ايقاف", "توقف", "إلغاء الاشتراك", "الغاء الاشتراك"),
            ("اشتراك", "ابدأ", "استئناف"),
            "تم إلغاء اشتراكك ولن تصلك رسائل منا بعد الآن. أرسل «اشتراك» لتصلك مجددا.",
            "تم تفعيل اشتراكك من جديد. أرسل «إيقاف» لإلغائه.",
        ),
        "he": Words(
            ("הסר", "הסרה", "הסירו אותי"),
            ("הצטרף", "הצטרפות"),
            "הוסרת מרשימת התפוצה ולא יישלחו אליך עוד הודעות. יש להשיב הצטרף כדי לקבלן שוב.",
            "הצטרפת מחדש. יש להשיב הסר כדי להסיר את עצמך.",
        ),
        "sw": Words(
            ("sitisha", "jiondoe"),
            ("anza", "jiunge"),
            "Umejiondoa na hutapokea tena ujumbe kutoka kwetu. Jibu ANZA ili kupokea tena.",
            "Umejiunga tena. Jibu SITISHA ili kujiondoa.",
        ),
        "rw": Words(
            ("hagarika", "guhagarika"),
            ("tangira", "gutangira"),
            "Wahagaritse, ntuzongera kubona ubutumwa bwacu. Subiza TANGIRA kugira ngo wongere kububona.",
            "Wongeye kwiyandikisha. Subiza HAGARIKA kugira ngo uhagarike.",
        ),
    }
)
