"""TFLite files: conversion, quantization, and what is known to fail."""
