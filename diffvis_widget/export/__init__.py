"""Figures, videos, tables, offline pages and Python code made from a trace."""

from .figures import Motion, Shown, code, csv, filmstrip, gif, mp4, png, webp

__all__ = ["Motion", "Shown", "code", "csv", "filmstrip", "gif", "mp4", "png", "webp"]
