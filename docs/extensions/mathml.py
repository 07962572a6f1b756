"""Formulas as MathML, which browsers draw by themselves: no script, no fonts to fetch."""

from docutils.utils.math.latex2mathml import tex2mathml


def _inline(translator, node):
    translator.body.append(tex2mathml(node.astext()))


def _block(translator, node):
    mathml = tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="math notranslate">{mathml}</div>')


def _visit(write):
    def visit(translator, node):
        from docutils.nodes import SkipNode

        write(translator, node)
        raise SkipNode

    return visit


def setup(app):
    """Make it the renderer of formulas in HTML."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(_visit(_inline), None), block_renderers=(_visit(_block), None)
    )
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
