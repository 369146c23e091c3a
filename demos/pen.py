"""Stopping what a visitor asked for, and only that.

Gradio's own cancelling goes by the button: it also ends what is asked for next, if the server is still busy with the Stop. So both clicks carry
the time by the visitor's own clock, and whoever makes something for them looks now and then whether it was asked for before the last Stop.
"""

import gradio as gr

ASKED = "(pen, now, ...asked) => [pen, Date.now(), ...asked]"  # the js of the event whose handler gets what stopped_by() gives, first of all


class Pen:
    """When a visitor last pressed Stop, in milliseconds by their own clock."""

    stopped = 0

    def stop(self, now) -> None:
        self.stopped = now

    def rests(self, asked) -> bool:
        """Whether what was asked for at that time is not wanted any more."""
        return self.stopped >= asked


def stopped_by(button: gr.Button) -> list:
    """Connect a Stop button; the first two inputs of the event that it stops: the visitor's Pen, and the time at which they asked."""
    pen, now = gr.State(Pen()), gr.Number(visible=False)
    button.click(Pen.stop, [pen, now], js="(pen) => [pen, Date.now()]", queue=False, api_visibility="private", show_progress="hidden")
    return [pen, now]
