"""Figures, videos, tables, offline pages and Python code made from a trace."""

from .figures import AnimationOptions, ViewOptions, code, csv, filmstrip, gif, mp4, png, webp

__all__ = ["AnimationOptions", "ViewOptions", "code", "csv", "filmstrip", "gif", "mp4", "png", "webp"]
