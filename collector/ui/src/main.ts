import './app.css';
import { mount } from 'svelte';
import App from './App.svelte';
import { start as startRouter } from './lib/router.svelte';
import { start as startTheme } from './lib/theme.svelte';

startTheme();
startRouter();
mount(App, { target: document.body });
