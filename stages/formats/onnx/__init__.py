"""ONNX files: conversion, quantization, and what is done to their graphs."""
